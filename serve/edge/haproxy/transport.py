"""HAProxy's lines on how clients speak to it: TLS, the way from HTTP to HTTPS, other origins.

The ciphers are Mozilla's "intermediate" ones for TLS 1.2 (Server Side TLS 5.7) without those of
finite fields; TLS 1.3 has none that are not good.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from serve.edge.haproxy.settings import Cors, EdgeSettings, Tls
from serve.edge.haproxy.templates import filled, template

_CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
_HTTPS = 443
_ANY_ORIGIN = "*"
_HEALTH_GOES_HERE = "STRATA_HEALTH"
_HEALTH = re.compile(r"\s+(?:acl backend_\S+_server_up |(?:acl|http-request) .*\bhealthcheck\b)")


def certificate_file(beside: Path) -> Path:
    """Return HAProxy's own file of certificate and key, in the folder of its configuration."""
    return beside.with_name("edge.pem")


def client_ca_file(beside: Path) -> Path:
    """Return HAProxy's own file of the CAs of clients."""
    return beside.with_name("client-ca.pem")


def why_file(certificate: Path) -> Path:
    """Return the file that says why there is no such file of HAProxy's, while there is none."""
    return certificate.with_name(f"{certificate.name}.why")


def bind_options(tls: Tls, beside: Path) -> str:
    """Return what makes a line `bind` of HTTP one of HTTPS."""
    clients = ""
    if tls.client_ca is not None:
        verify = "required" if tls.requires_client else "optional"
        clients = f" ca-file {client_ca_file(beside)} verify {verify}"
    # Tickets would be good for as long as HAProxy runs, whatever becomes of the key meanwhile.
    return (
        f" ssl crt {certificate_file(beside)} alpn h2,http/1.1 ssl-min-ver TLSv1.2 no-tls-tickets"
        f" ciphers {_CIPHERS}{clients}"
    )


def global_lines(settings: EdgeSettings) -> list[str]:
    """Return the lines of `global`: no session is resumed, or a CA taken away would go on to count.

    A certificate is looked at when a session begins, not when it is taken up again.
    """
    return ["    tune.ssl.cachesize 0"] if settings.tls is not None else []


def frontend_lines(settings: EdgeSettings) -> list[str]:
    """Return the frontend's first lines, which count for whatever is answered."""
    lines = _cors_lines(settings.cors, settings) if settings.cors else []
    lines += template("websocket.cfg")
    if settings.tls is None or not settings.tls.hsts_max_age_s:
        return lines
    age = {"STRATA_HSTS_AGE": str(settings.tls.hsts_max_age_s)}
    return [*lines, *(filled(line, age) for line in template("hsts.cfg"))]


def _cors_lines(cors: Cors, settings: EdgeSettings) -> list[str]:
    is_any = cors.origins == (_ANY_ORIGIN,)
    allowed = ["-m found"] if is_any else [f"-m str {origin}" for origin in cors.origins]
    named = {
        "STRATA_TOLD_ORIGIN": f"str({_ANY_ORIGIN})" if is_any else "req.fhdr(origin)",
        "STRATA_TENANT_HEADER": settings.tenant_header,
        "STRATA_CORS_AGE": str(cors.max_age_s),
    }
    return [
        *(f"    acl strata_origin req.fhdr(origin) {origin}" for origin in allowed),
        *(filled(line, named) for line in template("cors.cfg")),
    ]


def redirect_section(tls: Tls | None, host: str, frontend: Sequence[str]) -> list[str]:
    """Return the section that listens in plain HTTP, none where no port is set for it.

    `frontend` are the lines of Ray's, of which those that answer health checks are taken.
    """
    if tls is None or tls.redirect_port is None:
        return []
    named = {
        "STRATA_HOST": host,
        "STRATA_REDIRECT_PORT": str(tls.redirect_port),
        "STRATA_PUBLIC_PORT": "" if tls.public_port == _HTTPS else f":{tls.public_port}",
    }
    lines = [filled(line, named) for line in template("redirect.cfg")]
    at = next(number for number, line in enumerate(lines) if line.strip() == _HEALTH_GOES_HERE)
    lines[at : at + 1] = [line for line in frontend if _HEALTH.match(line)]
    return lines
