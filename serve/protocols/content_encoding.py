"""Content encodings of HTTP bodies: gzip and deflate (RFC 9110, section 8.4.1).

Called by the edge around every protocol. "deflate" is a zlib stream, as the RFC says.
"""

import gzip
import zlib

from serve.errors import BodyTooLarge, InvalidRequest, Unsupported

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LEVEL = 1  # on tensors higher levels cost time and save little


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Return the decompressed body. Raises BodyTooLarge, InvalidRequest, Unsupported.

    It stops at `limit_bytes`, so that a few bytes cannot fill the memory.
    """
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in _WINDOW_BITS:
        raise Unsupported(f"Unsupported compression type '{encoding}'; send gzip or deflate")
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        plain = stream.decompress(body, limit_bytes + 1)
    except zlib.error as err:
        raise InvalidRequest(f"the body is not {encoding}: {err}") from err
    if len(plain) > limit_bytes:
        raise BodyTooLarge(
            f"the body decompresses to more than {limit_bytes} bytes; send fewer rows at once "
            "or raise limits.max_body_bytes"
        )
    if not stream.eof:
        raise InvalidRequest(f"the {encoding} body ends too early")
    return plain


def choose_encoding(accept_encoding: str) -> str | None:
    """Return the encoding of a response by its request's Accept-Encoding, None for no encoding."""
    qualities = {}
    for item in accept_encoding.lower().split(","):
        name, _, parameters = item.partition(";")
        qualities[name.strip()] = _quality(parameters)
    anything = qualities.get("*", 0.0)
    best = max(("gzip", "deflate"), key=lambda name: qualities.get(name, anything))
    return best if qualities.get(best, anything) > 0 else None


def _quality(parameters: str) -> float:
    key, _, value = parameters.partition("=")
    if key.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def compress(body: bytes, encoding: str) -> bytes:
    """Return the compressed body; `encoding` is one that choose_encoding returns."""
    if encoding == "gzip":
        return gzip.compress(body, _LEVEL, mtime=0)
    return zlib.compress(body, _LEVEL)
