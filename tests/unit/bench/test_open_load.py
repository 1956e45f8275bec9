"""Load against a server that answers what a test says, on this machine's loopback."""

import asyncio
import math

import pytest
from bench.load import Body
from bench.open_load import Sent, send

from serve.errors import ServeError


class Server:
    """Answers each request with the next of `statuses`, 0 to break off; keeps what it got."""

    def __init__(self, *statuses):
        self.statuses, self.requests = statuses, []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v2/models/m/infer"

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.requests.append((head, await reader.readexactly(length)))
            status = self.statuses[len(self.requests) % len(self.statuses)]
            if not status:
                break
            for part in (b"HTTP/1.1 %d x\r\nContent-Length: 2\r\n" % status, b"\r\n{", b"}"):
                writer.write(part)
                await writer.drain()
        writer.close()


def _send(server, **options):
    async def scenario():
        async with server as url:
            return await send(url, Body(b"data", 3), 2, 0.2, skip_s=0.0, **options)

    return asyncio.run(scenario())


def test_it_sends_at_a_rate_and_tells_statuses_apart():
    server = Server(200, 429)
    sent = _send(server, rate=500, headers={"x-priority": "batch"})
    assert set(sent.latencies_ms) == {200, 429}
    head, body = server.requests[0]
    assert body == b"data"
    assert b"x-priority: batch\r\n" in head
    assert b"inference-header-content-length: 3\r\n" in head
    assert sent.percentile_ms(200, 99) > 0
    assert sent.per_s(429) == len(sent.latencies_ms[429]) / 0.2


def test_without_a_rate_each_client_asks_again_once_it_has_its_response():
    server = Server(200)
    sent = _send(server)
    assert len(sent.latencies_ms[200]) > 2


def test_a_connection_that_breaks_off_is_told_and_another_one_takes_its_place():
    server = Server(200, 0, 200)
    sent = _send(server)
    assert set(sent.latencies_ms) == {0, 200}


def test_it_stays_on_this_machine():
    with pytest.raises(ServeError, match="this machine only"):
        asyncio.run(send("http://example.com:80/", Body(b""), 1, 1.0))


def test_what_nobody_got_has_no_latency():
    sent = Sent(2.0, {200: [1.0, 3.0]})
    assert (sent.per_s(200), sent.percentile_ms(200, 50)) == (1.0, 2.0)
    assert math.isnan(sent.percentile_ms(429, 50))
