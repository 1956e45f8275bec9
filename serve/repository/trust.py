"""Whose versions may be loaded: ed25519 signatures over manifests, by keys that the config has.

Called by repository for every version that is read, and by publish, which signs. The manifest has
the model, the version and the hash of every file, so one signature over its bytes vouches for all.
`openssl pkeyutl -sign -rawin` makes the same ones (RFC 8032); keys are in its formats (RFC 8410).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from serve.config.schema import is_inline_key
from serve.errors import RepositoryError
from serve.repository.layout import SIGNATURE
from serve.repository.manifest import Manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

SIGNATURE_BYTES = 64
_MAKE_ONE = "make one with: openssl genpkey -algorithm ed25519 -out strata.key"
_PUBLIC_OF_IT = "openssl pkey -in strata.key -pubout -out strata.pub"


@dataclass(frozen=True, slots=True)
class Trust:
    """What the config says of whom a repository may be written by (`repository:` there)."""

    require_signed: bool = False
    public_keys: tuple[str, ...] = ()
    allow_outside_links: bool = False


ANYBODY = Trust()


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key that signs manifests."""

    key: "Ed25519PrivateKey"

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the signer with the private key in a PEM file. Raises RepositoryError."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
        except OSError as err:
            raise RepositoryError(
                f"the key '{file}' cannot be read: {err.strerror}; {_MAKE_ONE}"
            ) from err
        except TypeError as err:
            raise RepositoryError(
                f"the key '{file}' is encrypted; decrypt it for this: openssl pkey -in {file}"
            ) from err
        except (ValueError, UnsupportedAlgorithm) as err:
            raise RepositoryError(f"'{file}' is no private key in PEM; {_MAKE_ONE}") from err
        if not isinstance(key, Ed25519PrivateKey):
            raise RepositoryError(f"the key '{file}' is no ed25519 key; {_MAKE_ONE}")
        return cls(key)

    def sign(self, manifest: bytes) -> bytes:
        """Return the signature over a manifest's bytes, 64 bytes."""
        return self.key.sign(manifest)

    def require_known(self, trust: Trust) -> None:
        """Raise RepositoryError if replicas would not take what this key signs."""
        if trust.require_signed and self.key.public_key() not in _keys(trust.public_keys):
            raise RepositoryError(
                "the key that is to sign is none of repository.public_keys, so no replica would "
                f"load what it signs; add its public key there: {_PUBLIC_OF_IT}"
            )


def require_signer(trust: Trust, signer: Signer | None) -> None:
    """Raise RepositoryError if replicas would not load what is published."""
    if signer is not None:
        signer.require_known(trust)
    elif trust.require_signed:
        raise RepositoryError(
            "repository.require_signed is set, so no replica would load a version without a "
            "signature; give the private key of one of repository.public_keys: --sign KEYFILE"
        )


def require_signed(
    trust: Trust, manifest: Manifest, data: bytes, signature: bytes | None, place: tuple[str, int]
) -> None:
    """Check that a manifest, whose bytes are `data`, is signed, for the model and version there.

    Raises RepositoryError with what is wrong.
    """
    from cryptography.exceptions import InvalidSignature

    if (manifest.model, manifest.version) != place:
        raise RepositoryError(
            f"it is signed as model '{manifest.model}' version {manifest.version}, not as "
            f"'{place[0]}' version {place[1]}; publish it as this one: strata publish --sign"
        )
    if signature is None:
        raise RepositoryError(
            f"it is not signed (it has no {SIGNATURE}), and repository.require_signed is set; "
            "publish it with --sign KEYFILE"
        )
    if len(signature) != SIGNATURE_BYTES:
        raise RepositoryError(
            f"{SIGNATURE} is broken: it has {len(signature)} bytes instead of {SIGNATURE_BYTES}"
        )
    for key in _keys(trust.public_keys):
        try:
            key.verify(signature, data)
            return
        except InvalidSignature:
            continue
    raise RepositoryError(
        f"{SIGNATURE} is by none of repository.public_keys, or of another manifest; if whoever "
        "signed it is to be trusted, add the public key there"
    )


def _keys(texts: Sequence[str]) -> list["Ed25519PublicKey"]:
    return [_key(text) for text in texts]


def _key(text: str) -> "Ed25519PublicKey":
    """Return a public key by its own text or by the file that has it. Raises RepositoryError."""
    if is_inline_key(text.strip()):
        return _parsed(text.strip(), text)
    try:
        content = Path(text).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as err:
        why = err.strerror if isinstance(err, OSError) else "it is no text"
        raise RepositoryError(
            f"repository.public_keys: '{text}' is neither an ed25519 public key (PEM or base64) "
            f"nor a file that can be read: {why}"
        ) from err
    return _parsed(content, text)


def _parsed(content: str, named: str) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        load_der_public_key,
        load_pem_public_key,
    )

    try:
        if content.startswith("-----BEGIN"):
            key = load_pem_public_key(content.encode())
        else:
            data = base64.b64decode(content, validate=True)
            if len(data) == 32:
                return Ed25519PublicKey.from_public_bytes(data)
            key = load_der_public_key(data)
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as err:
        raise RepositoryError(
            f"repository.public_keys: '{named}' holds no public key in PEM or base64; make it "
            f"with: {_PUBLIC_OF_IT}"
        ) from err
    if not isinstance(key, Ed25519PublicKey):
        raise RepositoryError(f"repository.public_keys: '{named}' is no ed25519 key")
    return key
