"""Each request is sent once, and what becomes of it is told as it is."""

import asyncio
from collections import Counter

import pytest
from reliability.load import Client, Question

from tests.ports import free_port
from tests.unit.reliability.conftest import OK

ASK = Question("m", b"POST / HTTP/1.1\r\n\r\n", lambda body: body == b"yes!")


def outcomes(server, answer, *, asks=1, question=ASK):
    """Return how each of some requests ended, and how many the server saw."""

    async def ask():
        async with server(answer) as (address, got):
            client = Client(address, [question], timeout_s=30)
            for _ in range(asks):
                await client.ask_next()
            client.close()
            return [each.failure for each in client.outcomes], len(got)

    return asyncio.run(ask())


def test_right_answers_come_over_one_connection(server):
    connections = set()

    async def ask():
        async with server(lambda number: OK) as (address, got):
            client = Client(address, [ASK])
            for _ in range(5):
                await client.ask_next()
                connections.add(id(client._idle[0]))
            client.close()
            return [each.failure for each in client.outcomes], len(got)

    assert asyncio.run(ask()) == ([""] * 5, 5)
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nyes!", "status 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1yes!", "wrong answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nye", "the response broke off in its body"),
        (b"HTTP/1.1 200 OK\r\nConte", "the response broke off in its head"),
        (None, "the response broke off before it began"),
    ],
)
def test_a_request_that_fails_is_not_sent_again(server, response, failure):
    assert outcomes(server, lambda number: response) == ([failure], 1)


def test_a_connection_that_the_server_closed_is_left_before_a_request_is_sent(server):
    closing = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
    assert outcomes(server, lambda number: closing, asks=3) == ([""] * 3, 3)


def test_nobody_listening_is_a_refused_connection():
    client = Client(("127.0.0.1", free_port()), [ASK])
    asyncio.run(client.ask_next())
    assert [each.failure for each in client.outcomes] == ["connection refused"]


def test_what_is_not_answered_in_time_fails(server):
    async def ask():
        async with server(lambda number: b"yes!") as (address, _):  # no head, and it stays open
            client = Client(address, [ASK], timeout_s=0.05)
            await client.ask_next()
            client.close()
            return [each.failure for each in client.outcomes]

    assert asyncio.run(ask()) == ["no answer within 0.05 s"]


def test_an_open_loop_sends_on_while_nothing_is_answered(server, eventually):
    async def ask():
        async with server(lambda number: b"yes!") as (address, got):
            client = Client(address, [ASK], timeout_s=0.5)
            async with client.sending(200):
                while len(got) < 20:  # long before the first one has failed
                    await asyncio.sleep(0.01)
            client.close()
            return Counter(each.failure for each in client.outcomes)

    failures = asyncio.run(asyncio.wait_for(ask(), 60))
    assert set(failures) == {"no answer within 0.5 s"}
    assert failures.total() >= 20


def test_time_counts_from_when_a_request_was_due(server):
    """A process that was held up meanwhile would otherwise not see what its requests waited."""
    held_up_s = 0.2

    async def ask():
        async with server(lambda number: OK) as (address, _):
            client = Client(address, [ASK])
            async with client.sending(100):
                await asyncio.sleep(0.05)
                import time

                time.sleep(held_up_s)  # the loop stands still; requests fall due all the same
                await asyncio.sleep(0.05)
            client.close()
            return max(each.took_s for each in client.outcomes)

    assert asyncio.run(ask()) >= held_up_s / 2


def test_what_is_borne_counts_right_answers_alone(server):
    wrong = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nyes!"

    async def bears(answer):
        async with server(answer) as (address, _):
            client = Client(address, [ASK])
            borne = await client.bears(2, 0.2)
            client.close()
            return borne

    assert asyncio.run(bears(lambda number: OK)) > 0
    assert asyncio.run(bears(lambda number: wrong)) == 0
