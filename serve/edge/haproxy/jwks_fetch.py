"""Read an issuer's keys, from its URL or a file: a process of its own for each time.

So whatever an issuer's server does, a name that is never resolved or an answer of a byte a second
among it, ends with the process after some seconds, and holds up neither the agent nor the keys that
are revoked meanwhile. What it finds is written whole, for the agent and for the one after it.
"""

import json
import signal
import ssl
import sys
from collections.abc import Collection
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from serve.edge.haproxy.jwks import MOST_BYTES, Signer, parse_jwks
from serve.edge.haproxy.settings import Jwt, read_settings
from serve.edge.haproxy.whole_files import write_whole
from serve.errors import ConfigError

_MOST_S = 15
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Signers:
    """The keys that were found at a place (`jwks` of the config), for an algorithm."""

    jwks: str
    algorithm: str
    keys: tuple[Signer, ...]

    def are_of(self, jwt: Jwt) -> bool:
        """Tell whether tokens may be verified by them."""
        return (self.jwks, self.algorithm) == (jwt.jwks, jwt.algorithm)


def read_signers(file: Path) -> Signers | None:
    """Return what was found last; None where nothing was yet, or the file is not one of these."""
    try:
        tree = json.loads(file.read_bytes())
        keys = tuple(Signer(key["kid"], key["pem"]) for key in tree["keys"])
        return Signers(tree["jwks"], tree["algorithm"], keys)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_signers(file: Path, jwt: Jwt, keys: Collection[Signer]) -> None:
    """Write what was found, for read_signers."""
    tree = {
        "jwks": jwt.jwks,
        "algorithm": jwt.algorithm,
        "keys": [{"kid": key.kid, "pem": key.pem} for key in keys],
    }
    write_whole(file, json.dumps(tree))


def fetch(jwt: Jwt) -> tuple[Signer, ...]:
    """Return the keys that are there now. Raises ConfigError, which says why there are none."""
    try:
        text = _asked(jwt) if "://" in jwt.jwks else _read(Path(jwt.jwks))
        return parse_jwks(text, jwt.algorithm)
    except (OSError, HTTPException, ValueError, ConfigError) as err:
        raise ConfigError(f"{jwt.jwks} cannot be used: {err}") from err


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES + 1)


class _NoRedirects(HTTPRedirectHandler):
    """The keys are where the config says, and nobody else's word is taken for where."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _asked(jwt: Jwt) -> bytes:
    context = ssl.create_default_context(cafile=jwt.jwks_ca)
    opener = build_opener(_NoRedirects, HTTPSHandler(context=context))
    request = Request(jwt.jwks, headers={"Accept": "application/json", "User-Agent": "strata"})
    try:
        answer: HTTPResponse
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            if answer.status != 200:
                raise ConfigError(f"the answer has the status {answer.status}")
            return answer.read(MOST_BYTES + 1)
    except HTTPError as err:
        with err:
            raise ConfigError(f"the answer has the status {err.code}") from err


def main() -> None:
    """Write the keys into the file that the argument names, or end with why that cannot be."""
    signal.alarm(_MOST_S)  # whose default is the end of the process
    jwt = read_settings().jwt
    if jwt is None:
        sys.exit("access.jwt is not set any more")
    try:
        write_signers(Path(sys.argv[1]), jwt, fetch(jwt))
    except ConfigError as err:
        sys.exit(str(err)[:500])


if __name__ == "__main__":
    main()
