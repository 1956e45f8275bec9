import asyncio
import threading

import pytest

from serve.errors import RepositoryError
from serve.replica.late_calls import LateCalls
from tests.unit.replica.fakes import until


class Waiting:
    """A call that returns its number once it may go on; `calls` counts them."""

    def __init__(self):
        self.goes_on = threading.Event()
        self.calls = 0

    def __call__(self):
        self.calls += 1
        assert self.goes_on.wait(30)
        return self.calls


def test_a_call_that_comes_back_in_time_is_forgotten_whatever_it_raises():
    async def scenario():
        calls = LateCalls()
        assert await calls.result("a", lambda: 3, 30, "late") == 3
        with pytest.raises(ZeroDivisionError):
            await calls.result("a", lambda: 1 // 0, 30, "late")
        assert calls.keys == []

    asyncio.run(scenario())


def test_a_call_that_hangs_is_left_alone_and_its_result_is_taken_in_the_end():
    action = Waiting()

    async def scenario():
        calls = LateCalls()
        for _ in range(3):
            with pytest.raises(RepositoryError, match="it takes long"):
                await calls.result("a", action, 0.01, "it takes long")
        assert await calls.result("b", lambda: 5, 30, "late") == 5
        assert calls.keys == ["a"]
        action.goes_on.set()
        await until(calls._running["a"][0].done)
        return await calls.result("a", action, 0.01, "it takes long"), calls.keys

    assert asyncio.run(scenario()) == (1, [])
    assert action.calls == 1


def test_whoever_waits_may_give_up_and_the_call_is_not_lost():
    action = Waiting()

    async def scenario():
        calls = LateCalls()
        asking = asyncio.create_task(calls.result("a", action, 30, "late"))
        await until(lambda: action.calls)
        asking.cancel()
        await asyncio.wait([asking])
        action.goes_on.set()
        return await calls.result("a", action, 30, "late")

    assert asyncio.run(scenario()) == 1


def test_what_is_wanted_no_more_is_let_go_once_it_comes_back():
    action, let_go = Waiting(), []

    async def scenario():
        calls = LateCalls()
        with pytest.raises(RepositoryError):
            await calls.result("a", action, 0.01, "late")
        calls.drop("a", let_go.append)
        assert (calls.keys, let_go) == ([], [])
        action.goes_on.set()
        await until(lambda: let_go)

    asyncio.run(scenario())
    assert let_go == [1]
