import asyncio
import gzip
import random
import threading

import pytest

from serve.edge.asgi import Disconnected
from serve.edge.http import (
    COMPRESS_FROM_BYTES,
    HttpRequest,
    HttpResponse,
    error_response,
    read_request,
    send_response,
)
from serve.edge.presence import Presence
from serve.errors import (
    BodyTooLarge,
    ConfigError,
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
    RepositoryError,
)
from serve.protocols import content_encoding


async def _read_in_presence(scope, receive, limit, max_s=60.0):
    with Presence(receive) as presence:
        return await read_request(scope, receive, limit, presence, max_s)


def _read(messages, headers=(), limit=100, method="POST"):
    queue = list(messages)

    async def receive():
        return queue.pop(0)

    scope = {"method": method, "path": "/p", "headers": list(headers)}
    return asyncio.run(_read_in_presence(scope, receive, limit))


def _chunk(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_pieces_is_put_together():
    request = _read([_chunk(b"a", True), _chunk(b"b", True), _chunk(b"c")])
    assert (request.method, request.path, request.body) == ("POST", "/p", b"abc")


def test_too_much_is_refused_by_its_length_or_while_it_comes():
    with pytest.raises(BodyTooLarge, match="at least 101 bytes"):
        _read([], [(b"content-length", b"101")])
    with pytest.raises(BodyTooLarge):
        _read([_chunk(b"x" * 60, True), _chunk(b"x" * 60)])


def test_a_length_that_is_no_number_is_refused():
    with pytest.raises(InvalidRequest, match="Content-Length"):
        _read([], [(b"content-length", b"many")])


def test_a_client_that_hangs_up_is_noticed():
    with pytest.raises(Disconnected):
        _read([_chunk(b"a", True), {"type": "http.disconnect"}])


@pytest.mark.parametrize(("headers", "max_s"), [([], 0.01), ([(b"grpc-timeout", b"10m")], 60.0)])
def test_a_body_that_does_not_come_in_time_is_not_waited_for(headers, max_s):
    async def receive():
        await asyncio.Event().wait()

    scope = {"method": "POST", "path": "/p", "headers": headers}
    with pytest.raises(DeadlineExceeded, match=r"the body was not here within 0\.01 s"):
        asyncio.run(_read_in_presence(scope, receive, 100, max_s))


def _threads_of(monkeypatch, name):
    """Return the list of whether each call of a codec was on the event loop's thread."""
    done, original = [], getattr(content_encoding, name)

    def noted(*args):
        done.append(threading.current_thread() is threading.main_thread())
        return original(*args)

    monkeypatch.setattr(content_encoding, name, noted)
    return done


def test_large_bodies_are_inflated_and_compressed_beside_the_event_loop(monkeypatch):
    inflated = _threads_of(monkeypatch, "decompress")
    compressed = _threads_of(monkeypatch, "compress")
    noise = random.Random(0).randbytes(100_000)
    gzipped = [(b"content-encoding", b"gzip")]
    assert _read([_chunk(gzip.compress(b"few"))], gzipped).body == b"few"
    assert _read([_chunk(gzip.compress(noise))], gzipped, limit=200_000).body == noise
    accepts = HttpRequest("GET", "/", {b"accept-encoding": b"gzip"})
    _send(HttpResponse(200, noise[:COMPRESS_FROM_BYTES]), accepts)
    _send(HttpResponse(200, noise), accepts)
    assert (inflated, compressed) == ([True, False], [True, False])


def test_a_compressed_body_is_decompressed():
    body = gzip.compress(b"plain")
    assert _read([_chunk(body)], [(b"content-encoding", b"gzip")]).body == b"plain"


def _send(response, request=None):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(send_response(response, request, send))
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_a_response_has_its_length():
    status, headers, body = _send(HttpResponse(200, b"abc"))
    assert (status, headers[b"content-length"], body) == (200, b"3", b"abc")


@pytest.mark.parametrize(
    ("size", "accepted", "compressed"),
    [(COMPRESS_FROM_BYTES, b"gzip", True), (10, b"gzip", False), (COMPRESS_FROM_BYTES, b"", False)],
)
def test_only_large_bodies_are_compressed_and_only_if_accepted(size, accepted, compressed):
    request = HttpRequest("GET", "/", {b"accept-encoding": accepted})
    _, headers, body = _send(HttpResponse(200, b"a" * size), request)
    assert (headers.get(b"content-encoding") == b"gzip") is compressed
    assert (gzip.decompress(body) if compressed else body) == b"a" * size
    assert int(headers[b"content-length"]) == len(body)


@pytest.mark.parametrize(
    ("error", "status"), [(QueueFull("full"), 429), (ModelNotReady("no"), 503)]
)
def test_overload_says_when_to_come_back(error, status):
    response = error_response(error)
    assert response.status == status
    assert (b"retry-after", b"1") in response.headers


@pytest.mark.parametrize("kind", [ModelNotReady, InferenceFailed, RepositoryError, ConfigError])
def test_what_is_no_fault_of_the_client_is_told_without_where_things_are(kind):
    body = error_response(kind("'s3://bucket/models/m/3' and /srv/models/m/3/a.onnx fail")).body
    assert body == b'{"error":"\'3\' and a.onnx fail"}'


@pytest.mark.parametrize("kind", [InvalidRequest, ModelNotFound, BodyTooLarge, QueueFull])
def test_what_a_client_got_wrong_is_told_in_its_own_words(kind):
    assert b"/its/own" in error_response(kind("no input '/its/own'")).body
