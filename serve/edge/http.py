"""HTTP without a framework: read a request from ASGI, write a response to it.

The values pickle, so the gateway can pass a request on to a model's replica as it came.
A web framework's request parsing would cost more than the model does (docs/performance.md).
"""

import math
from dataclasses import dataclass, field

from serve.edge import deadlines
from serve.edge.asgi import Disconnected, Receive, Scope, Send
from serve.edge.off_loop import COMPRESS_BYTES, DECOMPRESS_BYTES, off_loop
from serve.edge.places import without_places
from serve.edge.presence import Presence
from serve.errors import (
    BodyTooLarge,
    ConfigError,
    InvalidRequest,
    OverQuota,
    RepositoryError,
    ServeError,
)
from serve.protocols import content_encoding
from serve.protocols.json_documents import encode_error

JSON = (b"content-type", b"application/json")
OCTETS = (b"content-type", b"application/octet-stream")
# Of responses to HAProxy alone, which takes it off: the pool whose replicas serve the model that
# was asked for, or that none does any more.
POOL_HEADER = b"x-strata-pool"
FORGET_POOL = b"-"

# Below this size compressing costs more time than the bytes that it saves.
COMPRESS_FROM_BYTES = 16 * 1024
_MOST_DIGITS = 18  # of a number of bytes; Python reads no more than 4,300


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names are lower case, `body` is decompressed."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes = b""


@dataclass(slots=True)
class HttpResponse:
    """One response; content-length is added when it is sent.

    `by_replica` marks, in the gateway, the response of a model's replica, which has recorded it.
    """

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [JSON])
    by_replica: bool = False


async def read_request(
    scope: Scope,
    receive: Receive,
    max_body_bytes: int,
    presence: Presence,
    max_s: float = math.inf,
) -> HttpRequest:
    """Read and decompress one request; raises BodyTooLarge before holding more than allowed.

    A client may allow less than `max_s` for its request, by a header. If the body is not there by
    then, `presence`, in whose block this is called, raises DeadlineExceeded.
    """
    headers = dict(scope["headers"])
    method = scope["method"]
    if method in {"GET", "HEAD"}:
        presence.has_body()
        return HttpRequest(method, scope["path"], headers)
    presence.allow(min(max_s, deadlines.timeout_s(headers)))
    body = await _read_body(headers, receive, max_body_bytes)
    presence.has_body()
    encoding = headers.get(b"content-encoding")
    if encoding is not None and body:
        body = await _decompressed(body, encoding.decode("latin-1"), max_body_bytes)
    return HttpRequest(method, scope["path"], headers, body)


async def _decompressed(body: bytes, encoding: str, max_body_bytes: int) -> bytes:
    if len(body) < DECOMPRESS_BYTES:
        return content_encoding.decompress(body, encoding, max_body_bytes)
    return await off_loop(content_encoding.decompress, body, encoding, max_body_bytes)


async def _read_body(headers: dict[bytes, bytes], receive: Receive, max_body_bytes: int) -> bytes:
    declared = _number_of_bytes(headers.get(b"content-length", b"0"), "Content-Length")
    if declared > max_body_bytes:
        raise _too_large(declared, max_body_bytes)
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_body_bytes:
            raise _too_large(size, max_body_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _number_of_bytes(text: bytes, header: str) -> int:
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise InvalidRequest(
            f"the header {header} must be a number of bytes, not '{text[:50].decode('latin-1')}'"
        )
    return int(text)


def _too_large(size: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body has at least {size} bytes, this model accepts {limit}; send fewer rows at once "
        "or raise limits.max_body_bytes"
    )


async def send_response(response: HttpResponse, request: HttpRequest | None, send: Send) -> None:
    """Send a response, compressed if it is worth it and the client says it may be."""
    body = response.body
    if request is not None and len(body) >= COMPRESS_FROM_BYTES:
        accepted = request.headers.get(b"accept-encoding", b"").decode("latin-1")
        encoding = content_encoding.choose_encoding(accepted)
        if encoding is not None:
            body = await _compressed(body, encoding)
            response.headers.append((b"content-encoding", encoding.encode()))
            response.headers.append((b"vary", b"accept-encoding"))
    if response.status != 204:  # which has no content
        response.headers.append((b"content-length", str(len(body)).encode()))
    start = {"type": "http.response.start", "status": response.status, "headers": response.headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _compressed(body: bytes, encoding: str) -> bytes:
    if len(body) < COMPRESS_BYTES:
        return content_encoding.compress(body, encoding)
    return await off_loop(content_encoding.compress, body, encoding)


def v2_json_length(request: HttpRequest) -> int | None:
    """Return where the JSON of a V2 body ends and its data begins, None for all JSON."""
    text = request.headers.get(b"inference-header-content-length")
    if text is None:
        return None
    return _number_of_bytes(text, "Inference-Header-Content-Length")


def error_response(err: ServeError) -> HttpResponse:
    """Return the JSON response for an error; overload says when to come back.

    When a quota has something left again is told by who counts it. What is no fault of the
    request's own is told without the places of the platform.
    """
    is_ours = err.http_status >= 500 or isinstance(err, (ConfigError, RepositoryError))
    said = without_places(str(err)) if is_ours else str(err)
    response = HttpResponse(err.http_status, encode_error(said))
    if err.http_status in {429, 503} and not isinstance(err, OverQuota):
        response.headers.append((b"retry-after", b"1"))
    return response


def client_closed_request() -> HttpResponse:
    """Return what is recorded where a client did not wait for its response; nobody gets it."""
    return HttpResponse(499, encode_error("the client hung up before its response was there"))


def not_found() -> HttpResponse:
    """Return the response to a path that nothing is at."""
    return HttpResponse(404, encode_error("Not Found"))


def options(allowed: str) -> HttpResponse:
    """Return the response to OPTIONS: the methods that a path takes."""
    return HttpResponse(204, b"", [(b"allow", allowed.encode())])


def method_not_allowed(allowed: str) -> HttpResponse:
    """Return the response to a path with the wrong HTTP method."""
    headers = [JSON, (b"allow", allowed.encode())]
    return HttpResponse(405, encode_error("Method Not Allowed"), headers)
