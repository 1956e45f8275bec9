"""Requests over many kept connections, each sent once, and what became of every one of them.

Open loop: a request is sent when its time has come, whatever became of those before, and its time
counts from then, so that waiting for a connection or for this process is seen, too.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_TIMEOUT_S = 60.0
_MOST_CONNECTIONS = 512  # beyond those a request waits for one, as in any client's pool
_LONGEST_HEAD = 2**16


@dataclass(frozen=True, slots=True)
class Question:
    """A request as the bytes to send, and whether a response's body is the right answer to it."""

    name: str
    request: bytes = field(repr=False)
    is_right: Callable[[bytes], bool] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """When a request was to be sent (of `time.monotonic`), how long it took, and how it failed.

    `failure` is empty for the right answer.
    """

    at_s: float
    took_s: float
    question: str
    failure: str = ""


class BrokenOff(Exception):
    """The connection ended before the response did; the message says where."""


class Connection:
    """A connection that is kept, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._is_kept = True

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """Connect. Raises OSError."""
        return cls(*await asyncio.open_connection(host, port, limit=_LONGEST_HEAD))

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent: the server has closed nothing that is known of."""
        return self._is_kept and not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the response. Raises OSError, BrokenOff."""
        self._writer.write(request)
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as err:
            where = "in its head" if err.partial else "before it began"
            raise BrokenOff(f"the response broke off {where}") from err
        status, headers = _parsed(head)
        self._is_kept = headers.get(b"connection", b"").lower() != b"close"
        try:
            body = await self._reader.readexactly(int(headers.get(b"content-length", 0)))
        except asyncio.IncompleteReadError as err:
            raise BrokenOff("the response broke off in its body") from err
        return status, body

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


def _parsed(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return int(first.split(b" ", 2)[1]), {key.lower(): value.strip() for key, _, value in pairs}


class Client:
    """Asks the server at `address` over connections taken in turn, and tries nothing twice.

    A connection that the server has closed is left before a request is sent over it, as clients do.
    """

    def __init__(
        self, address: tuple[str, int], questions: Sequence[Question], timeout_s: float = _TIMEOUT_S
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._address, self._timeout_s = address, timeout_s
        self._turns = itertools.cycle(questions)
        self._idle: deque[Connection] = deque()
        self._places = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def connect(self, count: int) -> None:
        """Open connections ahead, for the requests to come. Raises OSError."""
        self._idle += [await Connection.open(*self._address) for _ in range(count)]

    async def ask_next(self) -> None:
        """Send the request whose turn it is, and wait for what becomes of it."""
        await self._ask(next(self._turns), time.monotonic())

    async def bears(self, clients: int, seconds: float) -> float:
        """Return the right answers a second that so many clients get that each wait for theirs."""
        end = time.monotonic() + seconds
        before = len(self.outcomes)

        async def ask_on() -> None:
            while time.monotonic() < end:
                await self.ask_next()

        await asyncio.gather(*(ask_on() for _ in range(clients)))
        return sum(not each.failure for each in self.outcomes[before:]) / seconds

    @asynccontextmanager
    async def sending(self, rate: float) -> AsyncIterator[None]:
        """Send so many requests a second meanwhile; those under way at the end are waited for."""
        sender = asyncio.create_task(self._send(rate))
        try:
            yield
        finally:
            sender.cancel()
            await asyncio.wait([sender])
            await asyncio.gather(*self._under_way)

    def close(self) -> None:
        """End the connections."""
        while self._idle:
            self._idle.pop().close()

    async def _send(self, rate: float) -> None:
        self._under_way: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in itertools.count():
            at_s = began + number / rate
            if (early := at_s - time.monotonic()) > 0:
                await asyncio.sleep(early)
            elif number % 16 == 0:  # late: those under way must get on all the same
                await asyncio.sleep(0)
            task = asyncio.create_task(self._ask(next(self._turns), at_s))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _ask(self, question: Question, at_s: float) -> None:
        failure = ""
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                failure = await self._answer(question)
        except TimeoutError:
            failure = f"no answer within {self._timeout_s:g} s"
        except ConnectionRefusedError:
            failure = "connection refused"
        except (OSError, BrokenOff) as err:
            failure = str(err) if isinstance(err, BrokenOff) else type(err).__name__
        self.outcomes.append(Outcome(at_s, time.monotonic() - at_s, question.name, failure))

    async def _answer(self, question: Question) -> str:
        """Return how a request failed, if it did, and keep its connection. Raises OSError."""
        connection = self._kept() or await Connection.open(*self._address)
        try:
            status, body = await connection.ask(question.request)
        except BaseException:
            connection.close()
            raise
        if connection.is_open:
            self._idle.append(connection)
        else:
            connection.close()
        if status != 200:
            return f"status {status}"
        return "" if question.is_right(body) else "wrong answer"

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.popleft()  # the one that rested longest: all of them are used
            if connection.is_open:
                return connection
            connection.close()
        return None
