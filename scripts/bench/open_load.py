"""Load that does not wait for responses: so many requests a second, whatever becomes of them.

What a client waits for its response holds it back, and a server that is slow gets less to do; so
wrk cannot send twice the load that a server bears. This can, over a bounded number of connections.
"""

import asyncio
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np

from bench.load import Body, require_loopback
from serve.errors import ServeError

_TICK_S = 0.001


@dataclass(slots=True)
class Sent:
    """What became of the requests of one measurement: milliseconds by status.

    Those whose connection broke off have the status 0.
    """

    seconds: float
    latencies_ms: dict[int, list[float]] = field(default_factory=dict)

    def per_s(self, status: int) -> float:
        """Return how many were answered with a status a second."""
        return len(self.latencies_ms.get(status, ())) / self.seconds

    def percentile_ms(self, status: int, percentile: float) -> float:
        """Return a percentile of the latency of those with a status, NaN where there is none."""
        taken = self.latencies_ms.get(status)
        return float(np.percentile(taken, percentile)) if taken else float("nan")


async def send(
    url: str,
    body: Body,
    connections: int,
    seconds: float,
    rate: float | None = None,
    headers: Mapping[str, str] | None = None,
    skip_s: float = 1.0,
) -> Sent:
    """Post a body `rate` times a second at random moments, or as fast as responses come.

    What comes within the first `skip_s` is not counted. A request for which no connection is free
    waits for one, and its latency counts from when it was due. Raises ServeError for a URL that is
    not on this machine.
    """
    require_loopback(url)
    load = _Load(url, body, headers or {})
    for _ in range(connections):
        await load.connect()
    load.began = perf_counter() + skip_s
    try:
        await (load.at_rate(rate, seconds + skip_s) if rate else load.in_turn(seconds + skip_s))
    finally:
        load.close()
    return Sent(seconds, load.latencies_ms)


class _Load:
    def __init__(self, url: str, body: Body, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 0)
        lines = [
            f"POST {parts.path} HTTP/1.1",
            f"host: {parts.netloc}",
            f"content-type: {body.content_type}",
            f"content-length: {len(body.data)}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if body.json_length is not None:
            lines.append(f"inference-header-content-length: {body.json_length}")
        self.request = "\r\n".join([*lines, "", ""]).encode() + body.data
        self.latencies_ms: dict[int, list[float]] = {}
        self.began = 0.0
        self._due: deque[float] = deque()
        self._free: list[_Connection] = []
        self._all: list[_Connection] = []
        self._again = False
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self), self._host, self._port
        )
        self._all.append(connection)
        self._free.append(connection)

    async def at_rate(self, rate: float, seconds: float) -> None:
        chance = random.Random(0)
        begun = perf_counter()
        due = begun + chance.expovariate(rate)
        while due < begun + seconds:
            while due <= perf_counter():
                self._due.append(due)
                due += chance.expovariate(rate)
            self.go_on()
            await asyncio.sleep(_TICK_S)

    async def in_turn(self, seconds: float) -> None:
        self._again = True
        now = perf_counter()
        self._due.extend([now] * len(self._free))
        self.go_on()
        while perf_counter() < now + seconds:
            await asyncio.sleep(_TICK_S)
            self.go_on()

    def go_on(self) -> None:
        while self._due and self._free:
            self._free.pop().ask(self._due.popleft())

    def answered(self, connection: "_Connection", status: int, due: float) -> None:
        self._count(status, due)
        self._free.append(connection)
        self.go_on()

    def _count(self, status: int, due: float) -> None:
        now = perf_counter()
        if due >= self.began:
            self.latencies_ms.setdefault(status, []).append((now - due) * 1e3)
        if self._again:
            self._due.append(now)

    def lost(self, connection: "_Connection", due: float | None) -> None:
        """Take another connection in the place of one that was closed."""
        self._all.remove(connection)
        if due is None:
            self._free.remove(connection)
        else:
            self._count(0, due)
        task = asyncio.get_running_loop().create_task(self.connect())
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    def close(self) -> None:
        for connection in self._all:
            connection.close()


class _Connection(asyncio.Protocol):
    """One connection with one request on its way at a time."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due: float | None = None  # of the request that is on its way
        self._got = b""
        self._is_closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, err: Exception | None) -> None:
        if not self._is_closing:
            self._load.lost(self, self._due)

    def ask(self, due: float) -> None:
        self._due = due
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < _length(head):
            return
        self._got = b""
        due, self._due = self._due, None
        assert due is not None
        self._load.answered(self, int(head[9:12]), due)

    def close(self) -> None:
        self._is_closing = True
        self._transport.close()


def _length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        raise ServeError("a response without a content-length")
    return int(lower[at + 17 :].split(b"\r\n", 1)[0])
