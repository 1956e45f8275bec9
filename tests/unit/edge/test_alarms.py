"""Deadlines that share one timer; loop and timer are real, waits end with what they wait for."""

import asyncio
from time import perf_counter

from serve.edge.alarms import Alarms


class Ringing:
    """Alarms that note what they ring for, in order."""

    def __init__(self):
        self.rung = []
        self.alarms = Alarms(self._ring)
        self._changed = asyncio.Event()

    def _ring(self, item):
        self.rung.append(item)
        self._changed.set()

    async def wait_for(self, count):
        async with asyncio.timeout(30):
            while len(self.rung) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.rung


def test_items_ring_in_the_order_of_their_times():
    async def scenario():
        ringing, now = Ringing(), perf_counter()
        for item, after_s in (("last", 0.06), ("first", 0.0), ("second", 0.03)):
            ringing.alarms.set(item, now + after_s)
        return await ringing.wait_for(3)

    assert asyncio.run(scenario()) == ["first", "second", "last"]


def test_no_item_rings_before_its_time():
    async def scenario():
        ringing = Ringing()
        at = perf_counter() + 0.02
        ringing.alarms.set("item", at)
        await ringing.wait_for(1)
        return perf_counter() - at

    assert asyncio.run(scenario()) >= 0


def test_an_item_that_is_dropped_does_not_ring():
    async def scenario():
        ringing, now = Ringing(), perf_counter()
        ringing.alarms.set("dropped", now + 0.001)
        ringing.alarms.set("kept", now + 0.002)
        ringing.alarms.drop("dropped")
        ringing.alarms.drop("never set")
        return await ringing.wait_for(1)

    assert asyncio.run(scenario()) == ["kept"]


def test_an_item_that_is_set_again_rings_once_at_its_new_time():
    async def scenario():
        ringing, now = Ringing(), perf_counter()
        ringing.alarms.set("moved", now + 0.001)
        ringing.alarms.set("moved", now + 0.03)
        ringing.alarms.set("other", now + 0.01)
        return await ringing.wait_for(2)

    assert asyncio.run(scenario()) == ["other", "moved"]


def test_what_one_rings_for_may_set_another():
    async def scenario():
        ringing = Ringing()
        ring = ringing.alarms._ring
        ringing.alarms._ring = lambda item: (
            ring(item),
            item == "first" and ringing.alarms.set("next", perf_counter()),
        )
        ringing.alarms.set("first", perf_counter())
        return await ringing.wait_for(2)

    assert asyncio.run(scenario()) == ["first", "next"]


def test_many_items_that_do_not_ring_take_one_timer():
    async def scenario():
        loop, calls = asyncio.get_running_loop(), []
        original = loop.call_later
        loop.call_later = lambda *args: calls.append(args) or original(*args)
        alarms, now = Alarms(print), perf_counter()
        for number in range(1000):
            alarms.set(number, now + 60 + number)
            alarms.drop(number)
        return len(calls)

    assert asyncio.run(scenario()) == 1


def test_a_new_event_loop_is_asked_anew():
    ringing = Ringing()

    async def leave_one():
        ringing.alarms.set("of a loop that ended", perf_counter() + 0.5)

    async def scenario():
        ringing.alarms.set("item", perf_counter() + 0.6)
        return await ringing.wait_for(1)

    asyncio.run(leave_one())
    assert asyncio.run(scenario()) == ["item"]
