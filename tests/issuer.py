"""An issuer of tokens for tests: keys, what it signs, and the set of its public keys."""

import base64
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER, AUDIENCE = "https://login.example.com/", "strata"
_CURVES = {"256": ec.SECP256R1(), "384": ec.SECP384R1(), "512": ec.SECP521R1()}
_NAMES = {"256": "P-256", "384": "P-384", "512": "P-521"}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    """Return an integer as a JSON Web Key has it."""
    return base64url(value.to_bytes(size or (value.bit_length() + 7) // 8))


def claims(**changed: Any) -> dict[str, Any]:
    """Return what a good token says, with these changes; ... leaves a claim out."""
    said = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "tenant": "web"}
    return {name: value for name, value in (said | changed).items() if value is not ...}


class SigningKey:
    """A private key of an issuer, for one algorithm."""

    def __init__(self, algorithm: str = "RS256", kid: str | None = "one", bits: int = 2048) -> None:
        self.algorithm, self.kid = algorithm, kid
        self._size = algorithm[2:]
        self._hash = getattr(hashes, f"SHA{self._size}")()
        self._is_elliptic = algorithm.startswith("ES")
        self.private: Any = (
            ec.generate_private_key(_CURVES[self._size])
            if self._is_elliptic
            else rsa.generate_private_key(65537, bits)
        )

    def jwk(self, **changed: Any) -> dict[str, Any]:
        """Return the public key as a JSON Web Key, with these changes; ... leaves a member out."""
        numbers = self.private.public_key().public_numbers()
        if self._is_elliptic:
            size = (self.private.curve.key_size + 7) // 8
            own = {
                "kty": "EC",
                "crv": _NAMES[self._size],
                "x": number(numbers.x, size),
                "y": number(numbers.y, size),
            }
        else:
            own = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        said = {**own, "use": "sig", "alg": self.algorithm, "kid": self.kid or ...}
        return {name: value for name, value in (said | changed).items() if value is not ...}

    def token(
        self,
        payload: Mapping[str, Any] | str | None = None,
        header: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Return a signed token; a text is what it says as it is, for what no library writes."""
        if header is None:
            header = {"alg": self.algorithm, "typ": "JWT"}
            header |= {"kid": self.kid} if self.kid is not None else {}
        parts = (header, claims() if payload is None else payload)
        texts = [part if isinstance(part, str) else json.dumps(part) for part in parts]
        signed = ".".join(base64url(text.encode("utf-8", "surrogateescape")) for text in texts)
        return f"{signed}.{base64url(self.sign(signed.encode()))}"

    def sign(self, data: bytes) -> bytes:
        if self._is_elliptic:
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(self._hash)))
            size = (self.private.curve.key_size + 7) // 8
            return r.to_bytes(size) + s.to_bytes(size)
        scheme: Any = padding.PKCS1v15()
        if self.algorithm.startswith("PS"):
            scheme = padding.PSS(padding.MGF1(self._hash), padding.PSS.DIGEST_LENGTH)
        return bytes(self.private.sign(data, scheme, self._hash))


def jwks(*keys: SigningKey) -> bytes:
    """Return the set of their public keys."""
    return json.dumps({"keys": [key.jwk() for key in keys]}).encode()


class JwksServer(ThreadingHTTPServer):
    """Answers each request with `body` and `status`; `asked` counts. Use as a context."""

    daemon_threads = True

    def __init__(self, body: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.status, self.asked = body, 200, 0
        self.headers: dict[str, str] = {}
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.url = f"http://127.0.0.1:{self.server_port}/jwks.json"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    server: JwksServer

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.goes_on.wait(60)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass
