"""Who may use the platform, and how much of it: `access` in `strata.yaml`.

The keys themselves are in a file or a Secret of their own (edge.keys), hashed. HAProxy asks for
them and counts requests: it refuses before a replica hears of one. Rows and seconds are counted in
the replicas (the room quotas), where they are known.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from serve.config.sections import Name, Section

# What a quota without a tenant of its own is for: each tenant that has no other.
EVERY_TENANT = "*"

# Where the password for `counts.redis` comes from, since it must not stand in a file.
PASSWORD_VARIABLE = "STRATA_COUNTS_PASSWORD"

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
    rows_per_s: _NotNegative | None = Field(
        None,
        description=(
            "rows within a second, over all replicas, and as many at once at most; 0 refuses each "
            "request; how exactly is said at Counts"
        ),
    )
    compute_s_per_day: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description=(
            "seconds of the engine within a day of UTC, over all replicas, each request's part of "
            "its batches; 0 refuses each request"
        ),
    )

    @property
    def limits_requests(self) -> bool:
        """Whether HAProxy has something to count."""
        return self.requests_per_s is not None or self.concurrent_requests is not None

    @property
    def limits_compute(self) -> bool:
        """Whether replicas have something to count."""
        return self.rows_per_s is not None or self.compute_s_per_day is not None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.limits_requests and not self.limits_compute:
            raise ValueError("requests_per_s: give a quota a limit; without one it does nothing")
        return self


class Counts(Section):
    """Where rows and seconds of compute are counted that replicas have a quota of in common.

    In a Redis they are exact. Without one each replica lets through its part of the rows, the limit
    divided by the replicas that there are, and replicas tell each other of seconds once a second.
    """

    redis: str | None = Field(
        None,
        pattern=(
            r"^rediss?://([A-Za-z0-9._-]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
            r"(:[0-9]{1,5})?(/[0-9]{1,5})?$"
        ),
        description=(
            "redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// for TLS, of a Redis 5 or newer; "
            "the password comes from the variable STRATA_COUNTS_PASSWORD; null, the default, "
            "counts in the replicas. Platforms with the same database have their quotas in common"
        ),
    )
    timeout_s: float = Field(
        0.05, gt=0, le=5, description="seconds that a request waits for Redis at most"
    )
    when_uncounted: Literal["allow", "refuse"] = Field(
        "allow",
        description=(
            "what happens while Redis does not answer: allow, the default, goes on as without "
            "Redis, each replica with its part of the rows; refuse answers 503 to whoever has a "
            "quota that would be counted there"
        ),
    )

    @field_validator("redis", mode="before")
    @classmethod
    def _has_no_password(cls, value: object) -> object:
        if isinstance(value, str) and re.match("[^/]*//[^@/]*:[^@]*@", value):
            raise ValueError(
                f"a password does not belong into this file; put it into {PASSWORD_VARIABLE} (on a "
                "cluster into the Secret of accessCounts.existingSecret) and leave it out here"
            )
        return value


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
    counts: Counts = Field(
        default_factory=Counts,
        description="where rows and seconds are counted; changes without a restart",
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
