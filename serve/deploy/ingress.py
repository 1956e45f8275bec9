"""The platform's ingress as the commands ask it: with the API key of the environment, if any.

`strata up` has a key of its own for as long as it runs; people put theirs into STRATA_API_KEY. A
platform of this machine that speaks HTTPS has to show the very certificate that its config names:
whose CA it is of, and for which host, is a matter between it and its clients.
"""

import os
import shlex
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from serve.config.schema import Config, Http
from serve.edge.haproxy.certificates import names_in
from serve.errors import ConfigError

KEY_VARIABLE = "STRATA_API_KEY"
# A file of PEM with certificate and key, where the platform asks clients for theirs.
CERTIFICATE_VARIABLE = "STRATA_CLIENT_CERTIFICATE"
NEEDS_KEY = (
    f"the platform asks for an API key; put one into {KEY_VARIABLE} (strata keys create makes them)"
)
_EVERYWHERE = {"0.0.0.0", "::", "*", "localhost"}


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where a platform is asked; with HTTPS of a config of ours, which `certificate` it shows."""

    url: str
    certificate: Path | None = None

    def ask(self, method: str, path: str, *, timeout_s: float, **more: Any) -> requests.Response:
        """Return the response to a request.

        Raises requests.RequestException where there is none, ConfigError for a certificate that
        cannot be read.
        """
        headers = dict(more.pop("headers", None) or {})
        key = os.environ.get(KEY_VARIABLE)
        if key:
            headers["X-API-Key"] = key
        with requests.Session() as session:
            if self.certificate is not None:
                session.mount("https://", _OneCertificate(self.certificate))
            session.cert = os.environ.get(CERTIFICATE_VARIABLE) or None
            return session.request(
                method, f"{self.url}{path}", headers=headers, timeout=timeout_s, **more
            )

    def for_curl(self) -> tuple[list[str], str]:
        """Return options of curl, and the URL that goes with them, by which it trusts the ingress.

        Where the certificate is not for this address curl is told where the one is that it is for.
        """
        if self.certificate is None:
            return [], self.url
        address, port = urlsplit(self.url).hostname or "", urlsplit(self.url).port
        names = names_in(self.certificate)
        here = [name for name in (address, "localhost") if name in names]
        name = (here or [name.replace("*", "any") for name in names] or [address])[0]
        trusting = ["--cacert", shlex.quote(str(self.certificate))]
        if not here:
            trusting += ["--resolve", f"{name}:{port}:{address}"]
        return trusting, f"https://{name}:{port}"


def ingress_of(config: Config) -> Ingress:
    """Return the ingress of a config's platform on this machine."""
    tls = config.http.tls
    scheme, certificate = ("http", None) if tls is None else ("https", Path(tls.certificate))
    return Ingress(f"{scheme}://{_address(config.http)}:{config.http.port}", certificate)


def require_client_certificate(config: Config) -> None:
    """Raise ConfigError if the platform would let nobody in without one, and there is none here."""
    tls = config.http.tls
    if tls is None or tls.client_ca is None or tls.client_certificates != "required":
        return
    named = os.environ.get(CERTIFICATE_VARIABLE)
    if not named or not Path(named).is_file():
        raise ConfigError(
            "http.tls.client_certificates: required asks commands for one, too; name a PEM file "
            f"with certificate and key in {CERTIFICATE_VARIABLE}, or write optional"
        )


def is_refused(response: requests.Response) -> bool:
    """Tell whether the key is missing, not known, or may not do this."""
    return response.status_code in {401, 403}


def _address(http: Http) -> str:
    if http.host in _EVERYWHERE:
        return "127.0.0.1"
    return f"[{http.host}]" if ":" in http.host else http.host


class _OneCertificate(HTTPAdapter):
    """Connects to whoever has the key of the first certificate in a file, and to nobody else."""

    def __init__(self, certificate: Path) -> None:
        self._context = _context(certificate)
        super().__init__()

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more, ssl_context=self._context, assert_hostname=False)

    def cert_verify(self, connection: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave out the CAs of the system, which requests would add; keep the client's own."""
        super().cert_verify(connection, url, verify, cert)  # type: ignore[no-untyped-call]
        connection.ca_certs = connection.ca_cert_dir = None


def _context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # It is trusted by itself, without the CA that signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    end = "-----END CERTIFICATE-----"
    try:
        text = certificate.read_text(encoding="ascii", errors="replace")
        context.load_verify_locations(cadata=text[: text.index(end) + len(end)])
    except (OSError, ValueError, ssl.SSLError) as err:
        raise ConfigError(f"http.tls.certificate: {certificate} cannot be read: {err}") from err
    return context
