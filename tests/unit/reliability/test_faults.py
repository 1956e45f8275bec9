"""A fault is done between load before and load after it."""

import asyncio

import pytest
from reliability import faults
from reliability.faults import Fault, Suffered, chosen, suffer
from reliability.figures import Cost
from reliability.load import Client, Question

from serve.errors import ServeError
from tests.unit.reliability.conftest import OK

ASK = Question("m", b"POST / HTTP/1.1\r\n\r\n", lambda body: body == b"yes!")
BAD = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nyes!"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name in ("_BORNE_S", "_BEFORE_S", "_AFTER_S"):
        monkeypatch.setattr(faults, name, 0.2)


def suffered(server, fault, answer):
    async def hurt():
        async with server(answer) as (address, _):
            client = Client(address, [ASK])
            try:
                return await suffer("the platform", fault, client, 0.5)
            finally:
                client.close()

    return asyncio.run(hurt())


def test_what_fails_while_a_fault_lasts_is_its_cost(server, eventually):
    is_hurt, failed = [], []

    def answer(number):
        if is_hurt and len(failed) < 3:
            failed.append(number)
            return BAD
        return OK

    def do(platform):
        assert platform == "the platform"
        is_hurt.append(True)
        eventually(lambda: len(failed) == 3)

    told = suffered(server, Fault("f", "it fails", do), answer)
    assert told.cost.failed == {"status 503": 3}
    assert told.cost.sent > 3
    assert told.cost.recovered_s > 0
    assert not told.holds


def test_what_fails_before_is_not(server):
    is_hurt, failed = [], []

    def answer(number):
        if is_hurt or number <= 100:
            return OK
        failed.append(number)
        return BAD

    told = suffered(server, Fault("f", "it mends", is_hurt.append), answer)
    # Those that were under way when it happened may count: as many as there are on a busy machine.
    assert told.cost.failed.total() < max(3, len(failed) / 2)


def test_a_fault_that_cannot_be_done_says_why_and_does_not_hold(server):
    def do(platform):
        raise ServeError("a memory limit needs root")

    told = suffered(server, Fault("f", "it starves", do), lambda number: OK)
    assert told.problem == "a memory limit needs root"
    assert not told.holds


def test_a_platform_that_answers_nothing_is_not_hurt_further(server):
    fault = Fault("f", "it never comes", lambda platform: pytest.fail("it was done"))
    with pytest.raises(ServeError, match="answers nothing"):
        suffered(server, fault, lambda number: BAD)


def test_what_is_not_promised_holds_whatever_failed():
    cost = Cost(sent=9)
    cost.failed["connection refused"] += 1
    assert Suffered("f", "", promises_zero=False, rate=1.0, cost=cost).holds
    assert not Suffered("f", "", promises_zero=True, rate=1.0, cost=cost).holds


def test_faults_are_chosen_by_name_in_their_own_order():
    known = [Fault(name, "", print) for name in ("a", "b", "c")]
    assert chosen(known, ()) == known
    assert [each.name for each in chosen(known, ("c", "a"))] == ["a", "c"]
    with pytest.raises(ServeError, match="no fault 'd'; there are a, b, c"):
        chosen(known, ("d",))
