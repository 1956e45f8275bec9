"""What of the config HAProxy on each node is told (edge.haproxy.settings)."""

import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serve.config import access as config_access
from serve.config.schema import Config, Http
from serve.deploy.applications import GATEWAY
from serve.deploy.changes import user_config_of, with_user_config
from serve.edge.haproxy.certificates import read_certificate, read_client_ca
from serve.edge.haproxy.jwks import parse_jwks
from serve.edge.haproxy.settings import Cors, EdgeSettings, Jwt, RequestQuota, Tls
from serve.edge.keys import parse_keys
from serve.errors import ConfigError


def edge_settings(config: Config) -> EdgeSettings:
    """Return the settings of a config."""
    keys = config.access.keys
    return EdgeSettings(
        keys=None if keys is None else Path(keys),
        tenant_header=config.tenants.header.lower(),
        quotas=_request_quotas(config.access),
        tls=_tls(config.http),
        cors=_cors(config.http),
        jwt=_jwt(config.access.jwt),
    )


def _jwt(jwt: config_access.Jwt | None) -> Jwt | None:
    if jwt is None:
        return None
    ca = None if jwt.jwks_ca is None else Path(jwt.jwks_ca)
    return Jwt(**{**jwt.model_dump(), "jwks_ca": ca})


def _request_quotas(access: config_access.Access) -> tuple[RequestQuota, ...]:
    """Return what HAProxy counts: all quotas, or none where none limits requests.

    One that limits only rows may be in place of that of every tenant.
    """
    if not any(quota.limits_requests for quota in access.quotas):
        return ()
    return tuple(
        RequestQuota(
            tenant=quota.tenant,
            model=quota.model,
            requests_per_s=quota.requests_per_s,
            concurrent_requests=quota.concurrent_requests,
        )
        for quota in access.quotas
    )


def _tls(http: Http) -> Tls | None:
    tls = http.tls
    if tls is None:
        return None
    return Tls(
        certificate=Path(tls.certificate),
        key=Path(tls.key),
        client_ca=None if tls.client_ca is None else Path(tls.client_ca),
        requires_client=tls.client_ca is not None and tls.client_certificates == "required",
        redirect_port=tls.redirect_port,
        public_port=tls.public_port or http.port,
        hsts_max_age_s=tls.hsts_max_age_s,
    )


def _cors(http: Http) -> Cors | None:
    return None if http.cors is None else Cors(http.cors.origins, http.cors.max_age_s)


def with_edge_settings(deploy_config: dict[str, Any], config: Config) -> dict[str, Any]:
    """Return a deploy config whose gateway is told the settings, too.

    That is how they reach a platform of this machine that runs already (replica.edges); on a
    cluster a ConfigMap has them on every node.
    """
    tree = json.loads(edge_settings(config).to_json())
    applications = [
        with_user_config(each, {**user_config_of(each), "edge": tree})
        if each["name"] == GATEWAY
        else each
        for each in deploy_config["applications"]
    ]
    return {**deploy_config, "applications": applications}


def require_certificates(config: Config) -> None:
    """Raise ConfigError if there is to be TLS, and not with the files that are named for it."""
    tls = _tls(config.http)
    if tls is None:
        return
    now = datetime.now(UTC)
    read_certificate(tls, now)
    if tls.client_ca is not None:
        read_client_ca(tls, now)


def require_jwks(config: Config) -> None:
    """Raise ConfigError if tokens are to be verified by files that cannot be used.

    What is at a URL is the agent's to find out: a platform comes up without it.
    """
    jwt = config.access.jwt
    if jwt is None:
        return
    if "://" not in jwt.jwks:
        try:
            parse_jwks(Path(jwt.jwks).read_bytes(), jwt.algorithm)
        except (OSError, ConfigError) as err:
            raise ConfigError(f"access.jwt.jwks: {jwt.jwks} cannot be used: {err}") from err
    if jwt.jwks_ca is not None:
        try:
            ssl.create_default_context(cafile=jwt.jwks_ca)
        except OSError as err:
            raise ConfigError(f"access.jwt.jwks_ca: {jwt.jwks_ca} cannot be used: {err}") from err


def require_keys(config: Config) -> None:
    """Raise ConfigError if there are to be keys and nobody could be let in by them."""
    if config.access.keys is None:
        return
    try:
        parse_keys(Path(config.access.keys).read_bytes())
    except FileNotFoundError as err:
        raise ConfigError(
            f"access.keys: there is no {config.access.keys}; `strata keys create --tenant NAME` "
            "makes it, with a first key"
        ) from err
    except (OSError, ConfigError) as err:
        raise ConfigError(f"access.keys: {config.access.keys} cannot be used: {err}") from err
