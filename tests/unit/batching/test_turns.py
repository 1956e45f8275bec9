"""Turns by themselves, and batchers that share them: whose call is next, and how many run."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.batching.batcher import Batcher, BatchPolicy
from serve.batching.turns import Turn, Turns
from serve.config.sections import Batching


class Member:
    """Begins a call for each that it wants, whenever it has its turn; `calls` has those of all."""

    def __init__(self, name, turns, calls, wanted=0):
        self.name, self.wanted, self.running = name, wanted, 0
        self._calls, self._waits_since = calls, None
        self.turn = Turn(turns, self.go_on)

    def go_on(self):
        if not self.wanted or self.running:
            return
        if not self.turn.has_come():
            self._waits_since = len(self._calls)
            return
        if self._waits_since is not None:
            meanwhile = self._calls[self._waits_since :]
            assert len(meanwhile) == len(set(meanwhile)), "somebody had two turns"
        self._waits_since = None
        self.wanted, self.running = self.wanted - 1, 1
        self.turn.begin()
        self._calls.append(self)

    def finish(self):
        self.running = 0
        self.turn.end()
        self.go_on()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 3), st.randoms())
def test_who_waits_sees_each_of_the_others_have_one_turn_at_most(wanted, cores, chance):
    turns, calls = Turns(cores), []
    members = [Member(index, turns, calls, number) for index, number in enumerate(wanted)]
    for member in members:
        member.go_on()
    while running := [member for member in members if member.running]:
        assert len(running) <= cores + 1
        chance.choice(running).finish()
    assert [calls.count(member) for member in members] == wanted
    assert turns.is_idle


def test_who_is_urgent_goes_before_who_is_not():
    turns, calls = Turns(1), []
    members = {name: Member(name, turns, calls, 1) for name in "abcde"}
    for name in "cd":
        members[name].turn.is_urgent = lambda: False
    for member in members.values():
        member.go_on()
    while running := [member for member in members.values() if member.running]:
        running[0].finish()
    assert [call.name for call in calls] == ["a", "b", "e", "c", "d"]


def test_a_turn_that_nobody_needs_any_more_goes_to_the_next():
    turns, calls = Turns(1), []
    members = [Member(name, turns, calls, 1) for name in "abcd"]
    for member in members:
        member.go_on()
    assert calls == members[:2]
    members[2].wanted = 0  # its requests have gone
    members[0].finish()
    assert calls == [*members[:2], members[3]]


class Quick(Member):
    """A member whose calls end as they begin: on the event loop."""

    def go_on(self):
        super().go_on()
        if self.running:
            self.finish()


def test_those_who_compute_at_once_when_they_are_called_are_called_one_after_the_other():
    turns, calls = Turns(1), []
    busy = [Member(name, turns, calls, 1) for name in "ab"]  # one computes, one is ahead
    waiting = [Quick(number, turns, calls, 3) for number in range(2000)]
    for member in (*busy, *waiting):
        member.go_on()
    assert calls == busy
    busy[0].finish()
    assert [calls.count(member) for member in waiting] == [3] * len(waiting)
    busy[1].finish()
    assert turns.is_idle


class Engine:
    """Doubles x; each call waits until the test lets it go on, and tells whose it is."""

    def __init__(self, name, log, gate):
        self._name, self._log, self._gate = name, log, gate

    def __call__(self, signature, inputs):
        self._log.append((self._name, len(inputs["x"])))
        assert self._gate.acquire(timeout=30)
        return {"y": inputs["x"] * 2}


@pytest.fixture
def log():
    return []


@pytest.fixture
def gate():
    """Lets one call go on for each release."""
    return threading.Semaphore(0)


def _batcher(name, turns, log, gate, **batching):
    policy = BatchPolicy(Batching(**batching), 1000)
    return Batcher(Engine(name, log, gate), policy, lambda run, timing: None, turns=turns)


async def _infer(batcher, value, *, alone=False):
    x = np.array([value], np.float32)
    outputs, _ = await batcher.infer(
        "serve", {"x": x}, batched=True, timeout_s=30, is_alone=lambda: alone
    )
    return outputs["y"].tolist()


async def _until(check):
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.001)


def test_one_that_is_flooded_costs_the_others_few_of_its_batches(log, gate):
    async def scenario():
        turns = Turns(1)
        flooded = _batcher("flooded", turns, log, gate, max_batch_size=1)
        quiet = _batcher("quiet", turns, log, gate, max_batch_size=1)
        flood = [asyncio.create_task(_infer(flooded, value)) for value in range(20)]
        await _until(lambda: log)
        asked = asyncio.create_task(_infer(quiet, 5))
        await asyncio.sleep(0)
        gate.release(21)
        assert await asked == [10]
        assert await asyncio.gather(*flood) == [[2.0 * value] for value in range(20)]

    asyncio.run(scenario())
    assert [name for name, _ in log].index("quiet") <= 2
    assert len(log) == 21


def test_what_arrives_while_others_have_their_turns_shares_a_batch(log, gate):
    async def scenario():
        turns = Turns(1)
        others = [_batcher(name, turns, log, gate) for name in "ab"]
        mine = _batcher("mine", turns, log, gate, max_batch_size=8)
        first = [asyncio.create_task(_infer(each, 1)) for each in others]
        await _until(lambda: log and not turns.is_idle)
        asked = [asyncio.create_task(_infer(mine, value)) for value in range(5)]
        await _until(lambda: mine.queued == 5)
        gate.release(3)
        await asyncio.gather(*first, *asked)

    asyncio.run(scenario())
    assert log[2:] == [("mine", 8)]  # five, padded


@pytest.mark.parametrize("cores", [1, 2])
def test_as_many_calls_run_as_there_are_cores(log, gate, cores):
    async def scenario():
        turns = Turns(cores)
        members = [_batcher(name, turns, log, gate) for name in "abcd"]
        asked = [asyncio.create_task(_infer(each, 1)) for each in members]
        await _until(lambda: len(log) == cores)
        await asyncio.sleep(0.01)
        assert len(log) == cores
        gate.release(4)
        await asyncio.gather(*asked)

    asyncio.run(scenario())
    assert len(log) == 4


def test_a_lone_request_blocks_the_loop_only_while_nobody_computes(log, gate):
    async def scenario():
        turns = Turns(1)
        mine, other = (_batcher(name, turns, log, gate) for name in ("mine", "other"))
        mine._estimates.seconds = lambda entry: 0.0
        gate.release()
        before = {thread.ident for thread in threading.enumerate()}
        assert await _infer(mine, 1, alone=True) == [2]
        inline = {thread.ident for thread in threading.enumerate()} <= before and turns.is_idle
        busy = asyncio.create_task(_infer(other, 1))
        await _until(lambda: len(log) == 2)
        asked = asyncio.create_task(_infer(mine, 2, alone=True))
        await _until(lambda: mine.queued or mine.busy_s)  # were it on the loop, this would hang
        gate.release(2)
        assert await asked == [4]
        await busy
        return inline

    assert asyncio.run(scenario())


@pytest.mark.parametrize(("takes_s", "is_here"), [(0.0, True), (1.0, False), (None, False)])
def test_a_short_call_for_one_request_is_made_on_the_loop(log, gate, takes_s, is_here):
    async def scenario():
        turns = Turns(1)
        mine = _batcher("mine", turns, log, gate)
        mine._estimates.seconds = lambda entry: takes_s
        threads = []
        mine._compute = lambda signature, inputs: threads.append(threading.get_ident()) or inputs
        asked = [{"x": np.zeros(1)}] * 2
        for x in asked:
            await mine.infer("serve", x, batched=True, timeout_s=30)
        together = (mine.infer("serve", x, batched=True, timeout_s=30) for x in asked)
        await asyncio.gather(*together)
        here = [thread == threading.get_ident() for thread in threads]
        assert here == [is_here, is_here, False]  # those that come together share a batch
        assert turns.is_idle

    asyncio.run(scenario())


def test_one_that_is_closed_leaves_the_threads_to_the_others(log, gate):
    async def scenario():
        turns = Turns(1)
        one, other = (_batcher(name, turns, log, gate) for name in "ab")
        assert turns.sharers == 2
        one.close()
        assert turns.sharers == 1
        gate.release()
        return await _infer(other, 1)

    assert asyncio.run(scenario()) == [2]
