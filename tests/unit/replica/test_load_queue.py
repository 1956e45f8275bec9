"""The order in which a pool loads."""

import asyncio

from serve.replica.load_queue import LoadQueue
from serve.telemetry.faults import Faults
from tests.unit.replica.fakes import until


class Loads:
    """Notes what is loaded, and lets each load go on when told to."""

    def __init__(self, at_once=1):
        self.begun, self.running, self.most = [], 0, 0
        self.goes_on = asyncio.Semaphore(0)
        self.faults = Faults("change", "a test")
        self.queue = LoadQueue(self._load, at_once, self.faults)

    async def _load(self, item):
        self.begun.append(item)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.goes_on.acquire()
        self.running -= 1
        if item == "fails":
            raise ZeroDivisionError

    async def all_done(self, count):
        for _ in range(count):
            self.goes_on.release()
        await until(lambda: len(self.begun) == count and not self.running)


def test_what_a_request_waits_for_goes_first():
    async def scenario():
        loads = Loads()
        for item in "abcd":
            loads.queue.want(item)
        await until(lambda: loads.begun)
        loads.queue.want("new", first=True)
        loads.queue.want("d", first=True)
        loads.queue.want("a", first=True)  # which is being loaded
        await loads.all_done(5)
        return loads.begun

    assert asyncio.run(scenario()) == ["a", "d", "new", "b", "c"]


def test_as_many_are_loaded_side_by_side_as_may_be():
    async def scenario():
        loads = Loads(at_once=2)
        for item in "abcde":
            loads.queue.want(item)
        await until(lambda: loads.running == loads.queue.running == 2)
        await loads.all_done(5)
        return loads.most, loads.queue.running

    assert asyncio.run(scenario()) == (2, 0)


def test_one_that_fails_keeps_no_other_away():
    async def scenario():
        loads = Loads()
        for item in ("fails", "a"):
            loads.queue.want(item)
        await loads.all_done(2)
        return loads.begun, loads.faults.take()

    assert asyncio.run(scenario()) == (["fails", "a"], 1)


def test_what_is_wanted_while_it_is_loaded_is_loaded_once_more_and_what_is_not_wanted_is_not():
    async def scenario():
        loads = Loads()
        loads.queue.want("a")
        await until(lambda: loads.begun)
        loads.queue.want("a")  # with settings that the first load may not have seen
        loads.queue.want("a", first=True)  # a request that the first load will do for
        loads.queue.want("gone")
        loads.queue.forget("gone")
        await loads.all_done(2)
        return loads.begun

    assert asyncio.run(scenario()) == ["a", "a"]
