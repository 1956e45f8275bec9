"""Who may use the platform, and how much of it: `access` in `strata.yaml`.

The keys themselves are in a file or a Secret of their own (edge.keys), hashed. HAProxy holds both:
it refuses before a replica hears of a request.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serve.config.sections import Name, Section

# What a quota without a tenant of its own is for: each tenant that has no other.
EVERY_TENANT = "*"

_NotNegative = Annotated[int, Field(ge=0)]


class Quota(Section):
    """How much a tenant may ask for, of one model or of all; refused with 429 beyond it."""

    tenant: Name | Literal["*"] = Field(
        EVERY_TENANT,
        description="whose requests; `*`, the default, is each tenant that has no quota of its own",
    )
    model: Name | None = Field(
        None, description="of which model or pipeline; null, the default, is all of them together"
    )
    requests_per_s: _NotNegative | None = Field(
        None, description="requests within a second, over all nodes; 0 refuses each"
    )
    concurrent_requests: _NotNegative | None = Field(
        None, description="requests at once, over all nodes; 0 refuses each"
    )

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests_per_s is None and self.concurrent_requests is None:
            raise ValueError("requests_per_s: give a quota a limit; without one it does nothing")
        return self


class Access(Section):
    """Who may use the platform; without `keys` everybody who reaches it may."""

    keys: str | None = Field(
        None,
        min_length=1,
        description=(
            "file (relative to this file) of the hashes of API keys, made by `strata keys`; null, "
            "the default, asks nobody for a key. On a cluster the Secret of the chart's "
            "`accessKeys.existingSecret` has them in its place"
        ),
    )
    quotas: tuple[Quota, ...] = Field(
        (), description="how much tenants may ask for; changes without a restart"
    )

    @model_validator(mode="after")
    def _quotas_are_told_apart(self) -> Self:
        places = [(quota.tenant, quota.model) for quota in self.quotas]
        for place in places:
            if places.count(place) > 1:
                tenant, model = place
                of = f" of the model '{model}'" if model else ""
                raise ValueError(f"quotas: '{tenant}' has more than one{of}; write one with both")
        return self
