"""A server that does with each request what the test says, in an event loop of the test's."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes!"


class Server:
    """Sends what `answer(number)` returns to a request; a whole response keeps the connection.

    What ends before its time, None above all, is followed by the connection's end.
    """

    def __init__(self, answer):
        self.got = []
        self._answer = answer
        self._writers = []

    async def __call__(self, reader, writer):
        self._writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._serve(await reader.readuntil(b"\r\n\r\n"), writer):
                pass
        writer.close()

    async def _serve(self, head, writer):
        self.got.append(head)
        response = self._answer(len(self.got)) or b""
        writer.write(response)
        return response.endswith(b"yes!")

    def close(self):
        for writer in self._writers:
            writer.close()


@pytest.fixture
def server():
    """Return what starts a server of `answer`; it yields the address and the requests it got."""

    @asynccontextmanager
    async def serving(answer):
        server = Server(answer)
        listening = await asyncio.start_server(server, "127.0.0.1", 0)
        try:
            yield listening.sockets[0].getsockname(), server.got
        finally:
            listening.close()
            server.close()

    return serving
