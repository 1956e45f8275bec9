"""Content encodings of HTTP bodies: gzip and deflate (RFC 9110, section 8.4.1).

Called by the edge around every protocol. "deflate" is a zlib stream, as the RFC says.
"""

import gzip
import io
import zlib

from serve.errors import BodyTooLarge, InvalidRequest, Unsupported

_LEVEL = 1  # on tensors higher levels cost time and save little


def decompress(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Return the decompressed body. Raises BodyTooLarge, InvalidRequest, Unsupported.

    It stops at `limit_bytes`, so that a few bytes cannot fill the memory. A gzip body may have
    several members (RFC 1952, section 2.2), as parallel compressors write.
    """
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    readers = {"gzip": _gunzip, "x-gzip": _gunzip, "deflate": _inflate}
    if encoding not in readers:
        raise Unsupported(f"Unsupported compression type '{encoding}'; send gzip or deflate")
    try:
        plain = readers[encoding](body, limit_bytes + 1)
    except EOFError as err:
        raise InvalidRequest(f"the {encoding} body ends too early") from err
    except (gzip.BadGzipFile, zlib.error) as err:
        raise InvalidRequest(f"the body is not {encoding}: {err}") from err
    if len(plain) > limit_bytes:
        raise BodyTooLarge(
            f"the body decompresses to more than {limit_bytes} bytes; send fewer rows at once "
            "or raise limits.max_body_bytes"
        )
    return plain


def _gunzip(body: bytes, most_bytes: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        return file.read(most_bytes)


def _inflate(body: bytes, most_bytes: int) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(body, most_bytes)
    if not stream.eof and len(plain) < most_bytes:
        raise EOFError
    if stream.unused_data:
        raise zlib.error(f"{len(stream.unused_data)} bytes follow its end")
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
