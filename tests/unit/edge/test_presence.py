"""Clients that hang up while they wait: the connection is a fake, tasks and timers are real."""

import asyncio

import pytest

from serve.edge import presence
from serve.edge.asgi import Disconnected
from serve.edge.presence import Presence


@pytest.fixture(autouse=True)
def watch_soon(monkeypatch):
    monkeypatch.setattr(presence, "WATCH_AFTER_S", 0.001)


class Connection:
    """What ASGI shows of a connection: messages, and a disconnect once `hangs_up` is set."""

    def __init__(self):
        self.hangs_up = asyncio.Event()
        self.asked = asyncio.Event()
        self.messages = []
        self.is_left = False

    async def receive(self):
        self.asked.set()
        if self.messages:
            return self.messages.pop(0)
        try:
            await self.hangs_up.wait()
        except asyncio.CancelledError:
            self.is_left = True
            raise
        return {"type": "http.disconnect"}


def test_what_is_done_for_a_client_that_hangs_up_is_cancelled():
    ended = []

    async def work(connection):
        with Presence(connection.receive) as presence:
            presence.has_body()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

    async def scenario():
        connection = Connection()
        connection.messages.append({"type": "http.request", "body": b""})
        serving = asyncio.create_task(work(connection))
        await connection.asked.wait()
        connection.hangs_up.set()
        with pytest.raises(Disconnected):
            await serving
        return serving.cancelling()

    assert asyncio.run(scenario()) == 0
    assert ended == [True]


def test_a_response_that_comes_sooner_is_not_watched_for(monkeypatch):
    monkeypatch.setattr(presence, "WATCH_AFTER_S", 60)

    async def scenario():
        connection = Connection()
        with Presence(connection.receive) as presence:
            presence.has_body()
            await asyncio.sleep(0)
        return connection.asked.is_set(), len(asyncio.all_tasks())

    assert asyncio.run(scenario()) == (False, 1)


def test_a_server_that_always_has_a_message_does_not_hold_up_the_loop():
    asked = []

    async def receive():
        asked.append(True)
        return {"type": "http.request", "body": b""}

    async def scenario():
        async with asyncio.timeout(30):
            with Presence(receive) as presence:
                presence.has_body()
                while len(asked) < 3:
                    await asyncio.sleep(0.001)

    asyncio.run(scenario())


def test_a_connection_is_left_alone_once_the_response_is_there():
    async def scenario():
        connection = Connection()
        with Presence(connection.receive) as presence:
            presence.has_body()
            await connection.asked.wait()
        await asyncio.sleep(0)
        connection.hangs_up.set()
        await asyncio.sleep(0)
        return connection.is_left, len(asyncio.all_tasks())

    assert asyncio.run(scenario()) == (True, 1)


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_what_is_raised_while_the_client_waits_stays_what_it_is(error):
    async def scenario():
        with Presence(Connection().receive) as presence:
            presence.has_body()
            raise error

    async def caught():
        with pytest.raises(error):
            await scenario()

    asyncio.run(caught())


def test_a_task_that_is_cancelled_for_another_reason_as_well_stays_cancelled():
    async def work(connection):
        with Presence(connection.receive) as presence:
            presence.has_body()
            await asyncio.Event().wait()

    async def scenario():
        connection = Connection()
        serving = asyncio.create_task(work(connection))
        await connection.asked.wait()
        connection.hangs_up.set()
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(scenario())
