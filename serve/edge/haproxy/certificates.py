"""The certificates of the edge: read from the files that `strata.yaml` names, made one for HAProxy.

HAProxy's own files of them are beside its configuration: there it begins with them, and a pair that
is being written, or that does not fit, never gets to it.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from serve.edge.haproxy.settings import Tls
from serve.errors import ConfigError

_BEGIN = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")


def read_certificate(tls: Tls, now: datetime) -> str:
    """Return the certificate, what is between it and its CA, and its key, as one text of PEM.

    Raises ConfigError, with the file and the key of `strata.yaml`, if either cannot be read, they
    do not belong together, or the certificate is not valid at `now`.
    """
    chain = _certificates(tls.certificate, "http.tls.certificate")
    key = _key(tls.key)
    leaf = chain[0]
    if _public(leaf.public_key()) != _public(key.public_key()):
        raise ConfigError(
            f"http.tls.key: {tls.key} is not the key of the certificate in {tls.certificate}; "
            "if both are being renewed, write both"
        )
    _require_valid(leaf, now, f"http.tls.certificate: {tls.certificate}")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return _text(chain) + private


def read_client_ca(tls: Tls, now: datetime) -> str:
    """Return the CAs that clients' certificates are held to, as PEM; those that are valid.

    Raises ConfigError as read_certificate does, and if no CA is valid at `now`.
    """
    path = tls.client_ca
    if path is None:
        raise ConfigError("http.tls.client_ca: names no file")
    what = f"http.tls.client_ca: {path}"
    found = _certificates(path, "http.tls.client_ca")
    valid = [each for each in found if each.not_valid_before_utc <= now < each.not_valid_after_utc]
    if not valid:
        _require_valid(found[0], now, what)
    return _text(valid)


def expires(pem: str) -> datetime:
    """Return when the first certificate of a text is over, whose own it is of all in it."""
    return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc


def names_in(path: Path) -> list[str]:
    """Return the names and addresses that the first certificate of a file is for, as text.

    Raises ConfigError if it cannot be read.
    """
    (leaf, *_) = _certificates(path, "http.tls.certificate")
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _certificates(path: Path, key: str) -> Sequence[x509.Certificate]:
    text = _read(path, key)
    try:
        found = x509.load_pem_x509_certificates(text)
        is_whole = len(found) == len(_BEGIN.findall(text))
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ConfigError(
            f"{key}: {path} is no PEM file of certificates, or only a part of one; it begins with "
            "-----BEGIN CERTIFICATE-----"
        )
    return found


def _key(path: Path) -> PrivateKeyTypes:
    text = _read(path, "http.tls.key")
    try:
        # HAProxy looks whether an RSA key is one; here it would take half a second each time.
        return load_pem_private_key(text, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError as err:
        raise ConfigError(
            f"http.tls.key: {path} needs a password, which nobody could type; "
            f"openssl pkey -in {path} -out NEW writes one without"
        ) from err
    except ValueError as err:
        raise ConfigError(
            f"http.tls.key: {path} is no PEM file of a key, or only a part of one; it begins with "
            "-----BEGIN PRIVATE KEY-----"
        ) from err


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as err:
        raise ConfigError(f"{key}: there is no {path}") from err
    except OSError as err:
        raise ConfigError(f"{key}: {path} cannot be read: {err.strerror}") from err


def _require_valid(certificate: x509.Certificate, now: datetime, what: str) -> None:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        raise ConfigError(f"{what} expired at {_told(ends)}; renew it")
    if now < begins:
        raise ConfigError(f"{what} is valid from {_told(begins)} on only; does the clock go right?")


def _told(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _text(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)
