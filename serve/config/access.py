"""Who may use the platform, and how much of it: `access` in `strata.yaml`.

The keys themselves are in a file or a Secret of their own (edge.keys), hashed. HAProxy asks for
them and counts requests: it refuses before a replica hears of one. Rows and seconds are counted in
the replicas (the room quotas), where they are known.
"""

import re
from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from serve.config.sections import Name, Section, Tenant

# What a quota without a tenant of its own is for: each tenant that has no other.
EVERY_TENANT = "*"

# Where the password for `counts.redis` comes from, since it must not stand in a file.
PASSWORD_VARIABLE = "STRATA_COUNTS_PASSWORD"

_NotNegative = Annotated[int, Field(ge=0)]


class Quota(Section):
    """How much a tenant may ask for, of one model or of all; refused with 429 beyond it."""

    tenant: Tenant | Literal["*"] = Field(
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


# What HAProxy's configuration can have between single quotes, and a claim or its value in a line.
_Word = Annotated[str, Field(pattern=r"^[!-&(-~]{1,255}$")]
# Those of RFC 7518 whose keys come in pairs: who can verify a token cannot make one.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def _jwks(place: str) -> str:
    """Refuse a URL by which somebody on the way could put keys of their own."""
    if not _URL.match(place):
        return place
    try:
        url = urlsplit(place)
        host = url.hostname or ""
        _ = url.port
    except ValueError as err:
        raise ValueError(f"'{place}' is no URL: {err}") from err
    if url.scheme != "https" and not (url.scheme == "http" and _stays_inside(host)):
        raise ValueError(
            f"'{place}' must be https://, or who is on the way could put keys of their own; "
            "http:// is for this machine and for Services of a cluster (NAME.NAMESPACE.svc)"
        )
    if re.search(r"[^!-~]", place) or not host or url.username is not None or url.fragment:
        raise ValueError(f"'{place}' has a user, a fragment, a blank or no host; write it plainly")
    return place


def _stays_inside(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith((".svc", ".svc.cluster.local"))


class Jwt(Section):
    """Tokens (JSON Web Tokens) of an issuer, which prove who sends a request as keys do."""

    issuer: _Word = Field(
        description="who makes the tokens, exactly as their claim `iss` has it, slashes and all"
    )
    jwks: Annotated[str, Field(min_length=1), AfterValidator(_jwks)] = Field(
        description=(
            "where the issuer's public keys are (JSON Web Key Set): a URL, of which no redirect is "
            "followed, or a file (relative to this file). Read every five minutes, and sooner "
            "where tokens of unknown keys come; changes without a restart of replicas"
        )
    )
    audience: _Word = Field(
        description="what the claim `aud` of a token must be, or have among others: this platform"
    )
    algorithm: Algorithm = Field(
        "RS256", description="by which tokens are signed; those of any other are refused"
    )
    tenant_claim: _Word = Field(
        "tenant",
        description="claim that names the tenant; a token without it, or with no name, is refused",
    )
    models_claim: _Word | None = Field(
        None,
        description=(
            "claim that lists the models which a token opens: an array of names, or `*` for all; "
            "a token without it opens none. null, the default, has each token open all"
        ),
    )
    scope_claim: _Word = Field(
        "scope", description="claim with the words that say more: a text of them, or an array"
    )
    admin_scope: _Word | None = Field(
        None,
        description=(
            "word in `scope_claim`, such as strata:admin, that gives a token the scope admin; "
            "null, the default, gives it to none"
        ),
    )
    jwks_ca: str | None = Field(
        None,
        min_length=1,
        description=(
            "PEM file (relative to this file) of the CAs that the URL's certificate is held to; "
            "null, the default, are those of the system"
        ),
    )

    @model_validator(mode="after")
    def _ca_is_for_https(self) -> Self:
        if self.jwks_ca is not None and not self.jwks.startswith("https://"):
            raise ValueError("jwks_ca: needs a jwks that begins with https://")
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
            "redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// for TLS, of one Redis 5 or newer "
            "(not a Redis Cluster); the password comes from the variable STRATA_COUNTS_PASSWORD; "
            "null, the default, counts in the replicas. Platforms with the same database have "
            "their quotas in common"
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
    """Who may use the platform; without `keys` and `jwt` everybody who reaches it may."""

    keys: str | None = Field(
        None,
        min_length=1,
        description=(
            "file (relative to this file) of the hashes of API keys, made by `strata keys`; null, "
            "the default, has none. On a cluster the Secret of the chart's "
            "`accessKeys.existingSecret` has them in its place"
        ),
    )
    jwt: Jwt | None = Field(
        None, description="tokens that count beside keys or in their place; null, the default, none"
    )
    quotas: tuple[Quota, ...] = Field(
        (), description="how much tenants may ask for; changes without a restart"
    )
    counts: Counts = Field(
        default_factory=Counts,
        description="where rows and seconds are counted; changes without a restart",
    )

    @property
    def asks_who(self) -> bool:
        """Whether a request has to prove who sends it, by a key or a token."""
        return self.keys is not None or self.jwt is not None

    @model_validator(mode="after")
    def _quotas_are_told_apart(self) -> Self:
        places = [(quota.tenant, quota.model) for quota in self.quotas]
        for place in places:
            if places.count(place) > 1:
                tenant, model = place
                of = f" of the model '{model}'" if model else ""
                raise ValueError(f"quotas: '{tenant}' has more than one{of}; write one with both")
        return self
