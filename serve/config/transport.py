"""How clients and the ingress speak to each other: `http.tls` and `http.cors` in `strata.yaml`."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from serve.config.sections import Section

ANY_ORIGIN = "*"
_Port = Annotated[int, Field(ge=1, le=65535)]
_Path = Annotated[str, Field(min_length=1)]
# As browsers write it (RFC 6454, 6.2): no capitals, no path, and no port that goes without saying.
_ORIGIN = re.compile(r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_UNSAID = {"http": "80", "https": "443"}


class Tls(Section):
    """HTTPS at `http.port`; whose files change is taken up without a restart."""

    certificate: _Path = Field(
        description=(
            "PEM file (relative to this file) of the certificate, and behind it of those between "
            "it and its CA"
        )
    )
    key: _Path = Field(description="PEM file (relative to this file) of the certificate's key")
    client_ca: _Path | None = Field(
        None,
        description=(
            "PEM file (relative to this file) of the CAs whose certificates clients may show; "
            "null, the default, asks for none"
        ),
    )
    client_certificates: Literal["required", "optional"] = Field(
        "required",
        description="with client_ca: whether a client without a certificate may connect",
    )
    redirect_port: _Port | None = Field(
        None,
        description=(
            "port without TLS that sends clients to HTTPS (308) and answers the health check "
            "/-/healthz; null, the default, opens none"
        ),
    )
    public_port: _Port | None = Field(
        None,
        description="port at which clients find HTTPS, for redirects; null, the default: http.port",
    )
    hsts_max_age_s: int = Field(
        31_536_000,
        ge=0,
        description=(
            "seconds for which browsers ask this host, at any port, by HTTPS alone "
            "(Strict-Transport-Security); 0 says nothing of it"
        ),
    )

    @model_validator(mode="after")
    def _clients_are_checked_by_something(self) -> Self:
        if self.client_ca is None and "client_certificates" in self.model_fields_set:
            raise ValueError("client_certificates: needs client_ca, which certificates are held to")
        if self.redirect_port is None and self.public_port is not None:
            raise ValueError("public_port: needs redirect_port, whose redirects name it")
        return self


def _origin(text: str) -> str:
    if text == ANY_ORIGIN:
        return text
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError(
            f"'{text}' is no origin as browsers send it, such as https://app.example.com or "
            "http://localhost:5173: small letters, no path, no slash at the end"
        )
    if found[3] == _UNSAID[found[1]]:
        raise ValueError(f"'{text}' has the port that browsers leave out; leave out :{found[3]}")
    return text


class Cors(Section):
    """Pages of other origins whose scripts may call the platform; without it none may."""

    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        min_length=1, description="such as https://app.example.com; * alone is any"
    )
    max_age_s: int = Field(
        600, ge=0, le=86400, description="seconds for which a browser asks for no permission again"
    )

    @model_validator(mode="after")
    def _any_is_alone(self) -> Self:
        if ANY_ORIGIN in self.origins and len(self.origins) > 1:
            raise ValueError("origins: * is any origin, so others beside it say nothing; drop them")
        return self
