"""A server that does with each request what the test says, in an event loop of the test's."""

import asyncio
from contextlib import asynccontextmanager

import pytest

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes!"


@pytest.fixture
def server():
    """Return what starts a server of `answer(number) -> bytes`, None to close instead.

    It yields the address and the requests that it was sent.
    """

    @asynccontextmanager
    async def serving(answer):
        got = []
        writers = []

        async def serve(reader, writer):
            writers.append(writer)
            while head := await reader.readuntil(b"\r\n\r\n"):
                got.append(head)
                response = answer(len(got))
                if response is None:
                    break
                writer.write(response)
                if not response.endswith(b"yes!"):
                    break
            writer.close()

        async def quietly(reader, writer):
            try:
                await serve(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                writer.close()

        listening = await asyncio.start_server(quietly, "127.0.0.1", 0)
        try:
            yield listening.sockets[0].getsockname(), got
        finally:
            listening.close()
            for writer in writers:
                writer.close()

    return serving
