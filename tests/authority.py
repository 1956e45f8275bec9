"""Certificates for tests: an authority and what it signs, written as PEM files."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM."""

    certificate: str
    key: str

    def write(self, folder: Path, name: str = "tls") -> tuple[Path, Path]:
        """Write both and return their paths."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        paths[0].write_text(self.certificate)
        paths[1].write_text(self.key)
        return paths


class Authority:
    """Signs with a key of its own; `certificate` is its own as PEM."""

    def __init__(self, name: str = "tests", ends: datetime | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._self = _signed(self._name, self._name, self._key, self._key, [], ends, is_ca=True)
        self.certificate = _pem(self._self)

    def pair(
        self, *names: str, begins: datetime | None = None, ends: datetime | None = None
    ) -> Pair:
        """Return a certificate for names and addresses; by default from yesterday for 30 days."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _named(names[0] if names else "nobody")
        signed = _signed(subject, self._name, key, self._key, list(names), ends, begins)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Pair(_pem(signed), text)


def trusting(*authorities: Authority) -> ssl.SSLContext:
    """Return a client's context that knows these authorities alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata="".join(each.certificate for each in authorities))
    return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuers_key: ec.EllipticCurvePrivateKey,
    names: list[str],
    ends: datetime | None,
    begins: datetime | None = None,
    *,
    is_ca: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    ends = ends or now + 30 * DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or min(now, ends) - DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuers_key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
