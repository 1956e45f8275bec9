"""What of `strata.yaml` HAProxy needs to know, on its way to the nodes: a file of JSON.

STRATA_EDGE_SETTINGS names it to whatever runs beside HAProxy: a file of the platform's own folder
here, of a ConfigMap on a cluster. Imports next to nothing, as all that the launcher reads.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from serve.errors import ConfigError

SETTINGS_VARIABLE = "STRATA_EDGE_SETTINGS"
# What a request carries from HAProxy to the replicas (edge.middleware): `strata up` makes it anew
# each time that it starts. On a cluster it is made of the token that KubeRay makes for each one.
SECRET_VARIABLE = "STRATA_EDGE_SECRET"
_TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
_HAPROXY_VARIABLE = "RAY_SERVE_ENABLE_HA_PROXY"


@dataclass(frozen=True, slots=True)
class RequestQuota:
    """Requests a second and at once, None for any number; of one model, or of all for None."""

    tenant: str
    model: str | None
    requests_per_s: int | None
    concurrent_requests: int | None


@dataclass(frozen=True, slots=True)
class Tls:
    """HTTPS; the names are those of `http.tls`, the paths absolute."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    requires_client: bool = False
    redirect_port: int | None = None
    public_port: int = 443
    hsts_max_age_s: int = 0


@dataclass(frozen=True, slots=True)
class Cors:
    """Origins whose pages may call, as browsers write them, or `*` alone."""

    origins: tuple[str, ...]
    max_age_s: int


@dataclass(frozen=True, slots=True)
class Jwt:
    """Tokens; the names are those of `access.jwt`, `jwks` is a URL or an absolute path."""

    issuer: str
    jwks: str
    audience: str
    algorithm: str
    tenant_claim: str = "tenant"
    models_claim: str | None = None
    scope_claim: str = "scope"
    admin_scope: str | None = None
    jwks_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """The settings; `keys` is the file of the keys' hashes, None where nobody has one.

    `jwt` says which tokens count beside keys, or in their place; without either nobody is asked.

    `own_key` is the SHA-256 of the key by which `strata up` asks its own platform. Without `tls`
    clients speak HTTP, without `cors` no page of another origin may call.
    """

    keys: Path | None = None
    tenant_header: str = "x-tenant"
    quotas: tuple[RequestQuota, ...] = ()
    own_key: str | None = None
    tls: Tls | None = None
    cors: Cors | None = None
    jwt: Jwt | None = None

    @property
    def asks_who(self) -> bool:
        """Whether a request has to prove who sends it, by a key or a token."""
        return self.keys is not None or self.jwt is not None

    @property
    def has_access(self) -> bool:
        """Whether requests are refused by who sends them, or how many."""
        return self.asks_who or bool(self.quotas)

    @property
    def needs_agent(self) -> bool:
        """Whether an agent beside HAProxy has something to keep up to date (agent.py)."""
        return self.has_access or self.tls is not None or self.cors is not None

    @property
    def lines(self) -> tuple[object, ...]:
        """What HAProxy's lines depend on: where it differs HAProxy has to be started anew."""
        nowhere = Path()  # HAProxy's own files are elsewhere
        tls = self.tls and replace(
            self.tls, certificate=nowhere, key=nowhere, client_ca=self.tls.client_ca and nowhere
        )
        # Where the issuer's keys are found is the agent's alone to know.
        jwt = self.jwt and replace(self.jwt, jwks="", jwks_ca=None)
        asked = self.keys is None, self.asks_who, self.has_access, self.tenant_header
        return *asked, tls, self.cors, jwt

    @property
    def mark(self) -> str:
        """A word for `lines`, which HAProxy says of itself: by it the agent knows what it has."""
        return f"strata-{hashlib.sha256(repr(self.lines).encode()).hexdigest()[:16]}"

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=2, default=str)


def edge_secret(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the secret; None where no HAProxy is in front, or nothing is there to make one of."""
    if environment.get(_HAPROXY_VARIABLE) != "1":
        return None
    token = environment.get(_TOKEN_VARIABLE)
    derived = hashlib.sha256(f"strata edge {token}".encode()).hexdigest() if token else None
    return environment.get(SECRET_VARIABLE) or derived


def read_settings(environment: Mapping[str, str] = os.environ) -> EdgeSettings:
    """Return the settings of the file that the environment names; the defaults where it names none.

    Raises ConfigError for a file that cannot be read: an ingress that does not know who may must
    not start.
    """
    named = environment.get(SETTINGS_VARIABLE)
    if not named:
        return EdgeSettings()
    try:
        return settings_of(json.loads(Path(named).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as err:
        raise ConfigError(
            f"{named}, which {SETTINGS_VARIABLE} names, cannot be read ({type(err).__name__}: "
            f"{err}); `strata up` and the chart write it"
        ) from err


def settings_of(tree: Mapping[str, Any]) -> EdgeSettings:
    """Return settings of what was JSON. Raises KeyError and TypeError where it is not like that."""
    keys = tree["keys"]
    return EdgeSettings(
        keys=None if keys is None else Path(keys),
        tenant_header=tree["tenant_header"],
        quotas=tuple(RequestQuota(**quota) for quota in tree["quotas"]),
        own_key=tree.get("own_key"),
        tls=_tls_of(tree["tls"]) if tree.get("tls") else None,
        cors=_cors_of(tree["cors"]) if tree.get("cors") else None,
        jwt=_jwt_of(tree["jwt"]) if tree.get("jwt") else None,
    )


def _jwt_of(tree: Mapping[str, Any]) -> Jwt:
    ca = tree["jwks_ca"]
    return Jwt(**{**tree, "jwks_ca": None if ca is None else Path(ca)})


def _tls_of(tree: Mapping[str, Any]) -> Tls:
    client_ca = tree["client_ca"]
    paths = {
        "certificate": Path(tree["certificate"]),
        "key": Path(tree["key"]),
        "client_ca": None if client_ca is None else Path(client_ca),
    }
    return Tls(**{**tree, **paths})


def _cors_of(tree: Mapping[str, Any]) -> Cors:
    return Cors(**{**tree, "origins": tuple(tree["origins"])})
