"""Public keys of an issuer of tokens: a JSON Web Key Set (RFC 7517), of which PEM is made."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from serve.errors import ConfigError

MOST_BYTES = 256 * 1024
MOST_KEYS = 100
_MOST_KID_CHARACTERS = 1024
# Shorter ones are no longer safe (RFC 7518, 3.3), longer ones take HAProxy long.
_RSA_BITS = range(2048, 8192 + 1)
_CURVES: Mapping[str, tuple[str, ec.EllipticCurve]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES384": ("P-384", ec.SECP384R1()),
    "ES512": ("P-521", ec.SECP521R1()),
}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that tokens are verified by: its id, if it has one, and itself as PEM."""

    kid: str | None
    pem: str


def parse_jwks(text: bytes, algorithm: str) -> tuple[Signer, ...]:
    """Return the keys of a set that verify signatures of an algorithm of RFC 7518, such as RS256.

    Others are passed over (RFC 7517, 5): those of other algorithms and uses, those that are too
    weak or not whole, and those whose private part the set tells. Raises ConfigError for a text
    that is no set, one of which no key is left, and one in which two keys have the same id.
    """
    signers = tuple(_usable(_keys_in(text), algorithm))
    if not signers:
        raise ConfigError(f"it has no key that verifies {algorithm}")
    for kid, times in Counter(signer.kid for signer in signers).items():
        if times > 1 and kid is not None:
            raise ConfigError(f"it has {times} keys with the id (kid) {json.dumps(kid[:100])}")
    return signers


def _keys_in(text: bytes) -> list[Any]:
    if len(text) > MOST_BYTES:
        raise ConfigError(f"it has more than {MOST_BYTES} bytes")
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ConfigError("it is no JSON") from err
    keys = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(keys, list):
        raise ConfigError('it is no JSON Web Key Set, which is {"keys": [...]}')
    if len(keys) > MOST_KEYS:
        raise ConfigError(f"it has {len(keys)} keys, and {MOST_KEYS} are the most")
    return keys


def _usable(keys: list[Any], algorithm: str) -> Iterator[Signer]:
    for key in keys:
        if isinstance(key, dict) and _is_for(key, algorithm):
            try:
                public = _elliptic(key, algorithm) if algorithm in _CURVES else _rsa(key)
                kid = _kid(key)
            except (ValueError, KeyError):
                continue
            pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            yield Signer(kid, pem.decode())


def _is_for(key: dict[str, Any], algorithm: str) -> bool:
    """Tell whether a key is meant to verify an algorithm's signatures, and is public alone."""
    operations = key.get("key_ops", ["verify"])
    return (
        key.get("kty") == ("EC" if algorithm in _CURVES else "RSA")
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
        and "d" not in key
    )


def _kid(key: dict[str, Any]) -> str | None:
    kid = key.get("kid")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _MOST_KID_CHARACTERS):
        raise ValueError("an id that is no text, or a long one")
    if kid is not None:
        kid.encode()  # UnicodeEncodeError, a ValueError, for half a character
    return kid


def _rsa(key: dict[str, Any]) -> rsa.RSAPublicKey:
    modulus = int.from_bytes(_bytes(key["n"]))
    exponent = int.from_bytes(_bytes(key["e"]))
    is_sound = modulus.bit_length() in _RSA_BITS and modulus % 2 == 1
    if not is_sound or exponent.bit_length() > 32:
        raise ValueError("weak, or slow to verify by")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _elliptic(key: dict[str, Any], algorithm: str) -> ec.EllipticCurvePublicKey:
    name, curve = _CURVES[algorithm]
    x, y = _bytes(key["x"]), _bytes(key["y"])
    if key.get("crv") != name or {len(x), len(y)} != {(curve.key_size + 7) // 8}:
        raise ValueError("another curve")
    return ec.EllipticCurvePublicNumbers(
        int.from_bytes(x), int.from_bytes(y), curve
    ).public_key()  # which looks whether the point is on the curve


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise ValueError("no base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
