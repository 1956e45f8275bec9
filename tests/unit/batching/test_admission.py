"""Who may wait, and what that makes of a replica that gets twice the load that it can bear.

No time passes here: the simulation's clock is told what batches take.
"""

import asyncio
import random
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batching.admission import OVERLOAD, QUEUE_FULL, Admission
from serve.batching.execution import Entry
from serve.batching.queue import Queue
from serve.errors import QueueFull


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Simulated:
    """A replica with one engine; a batch takes `a_call_s` and `a_row_s` for each padded row."""

    def __init__(self, loop, a_call_s, a_row_s, largest, max_queued=1024, max_wait_s=0.25):
        self.loop, self.largest, self.now = loop, largest, 0.0
        self._a_call_s, self._a_row_s = a_call_s, a_row_s
        self.queue = Queue()
        self.admission = Admission(
            self.queue, largest, max_queued, max_wait_s, clock=lambda: self.now
        )
        self._running, self._ends = [], None
        self.answered, self.refused, self.reasons = {}, {}, {}

    @property
    def capacity(self):
        return self.largest / self.seconds(self.largest)

    def seconds(self, rows):
        return self._a_call_s + self._a_row_s * rows

    def arrive(self, priority="interactive", rows=1):
        self.admission.enter(priority)
        self.queue.add(
            Entry(
                signature="serve",
                inputs={"x": np.zeros(rows)},
                rows=rows,
                key="image",
                future=self.loop.create_future(),
                arrived=self.now,
                priority=priority,
            )
        )
        if self._ends is None:
            self._start()

    def _start(self):
        self._running = self.queue.take(self.largest)
        rows = sum(entry.rows for entry in self._running)
        self._padded = min(1 << (rows - 1).bit_length(), self.largest)
        self._ends = self.now + self.seconds(self._padded)

    def finish(self):
        """Go on to the end of the batch that runs."""
        rows = sum(entry.rows for entry in self._running)
        requests = sum(e.rows / (e.whole or e).rows for e in self._running)
        took_s = self.seconds(self._padded)
        self.now, self._ends = self._ends, None
        self.admission.pace.learn(rows, self._padded, requests, took_s)
        for entry in self._running:
            entry.finish({"y": entry.inputs["x"]})
            whole = entry.whole or entry
            if whole.future.done():
                self.answered.setdefault(entry.priority, []).append(self.now - entry.arrived)
        if self.queue:
            self._start()

    def go_on_until(self, at):
        while self._ends is not None and self._ends <= at:
            self.finish()
        self.now = at

    def run(self, rates, count, rows=1, seed=0):
        """Have `count` requests come at random, so many a second of each priority."""
        chance = random.Random(seed)
        self.answered, self.refused = {}, {}
        at = self.now
        for _ in range(count):
            at += chance.expovariate(sum(rates.values()))
            self.go_on_until(at)
            (priority,) = chance.choices(list(rates), list(rates.values()))
            try:
                self.arrive(priority, rows)
            except QueueFull as err:
                self.refused.setdefault(priority, []).append(str(err))

    def p99(self, priority="interactive"):
        return float(np.percentile(self.answered[priority], 99))


_ENGINES = {
    "a call takes the same": (0.05, 0.0, 8, 1),
    "a small model whose requests cost more than its calls": (0.0002, 0.00015, 64, 1),
    "calls and rows": (0.2, 0.02, 64, 1),
    "rows alone": (0.001, 0.03, 64, 1),
    "no batching": (0.01, 0.0, 1, 1),
    "requests of several rows": (0.001, 0.0003, 32, 4),
    "requests larger than a batch": (0.01, 0.001, 8, 40),
}


@pytest.mark.parametrize("engine", _ENGINES)
def test_at_twice_the_load_who_is_let_in_waits_as_at_four_fifths_of_it(loop, engine):
    *engine, rows = _ENGINES[engine]
    calm, busy = Simulated(loop, *engine), Simulated(loop, *engine)
    rate = calm.capacity / rows
    for replica, load in ((calm, 0.8), (busy, 2.0)):
        replica.run({"interactive": load * rate}, 1000, rows)  # until it has found its ways
        begun = replica.now
        replica.run({"interactive": load * rate}, 2000, rows)
    assert busy.p99() <= 1.5 * calm.p99()
    # Where padding costs as much as rows do, four fifths of full batches are nearly all.
    assert len(calm.refused.get("interactive", [])) <= 0.025 * 2000
    computed = len(busy.answered["interactive"]) / (busy.now - begun)
    assert computed >= 0.8 * rate
    assert "limits.max_queue_wait_s" in busy.refused["interactive"][0]


def test_without_the_bound_everybody_waits_for_a_full_queue(loop):
    calm, busy = (Simulated(loop, 0.05, 0.0, 8, max_wait_s=None) for _ in range(2))
    calm.run({"interactive": 0.8 * calm.capacity}, 3000)
    busy.run({"interactive": 2 * calm.capacity}, 3000)
    assert busy.p99() > 10 * calm.p99()
    assert "limits.max_queued_requests" in busy.refused["interactive"][0]


def test_once_the_load_is_borne_again_nobody_is_refused_any_more(loop):
    replica = Simulated(loop, 0.01, 0.001, 8)
    replica.run({"interactive": 2 * replica.capacity}, 2000)
    assert replica.refused
    replica.run({"interactive": 0.5 * replica.capacity}, 2000)
    replica.run({"interactive": 0.5 * replica.capacity}, 2000)
    assert not replica.refused


def test_a_load_that_is_borne_refuses_nobody(loop):
    for engine in ((0.05, 0.0, 8), (0.0002, 0.00015, 64), (0.2, 0.02, 64)):
        replica = Simulated(loop, *engine)
        replica.run({"interactive": 0.9 * replica.capacity}, 3000)
        assert not replica.refused


def _known(loop, **limits):
    """Return a replica that knows its pace: 8 rows take 0.1 s."""
    replica = Simulated(loop, 0.1, 0.0, 8, **limits)
    for _ in range(8):
        replica.arrive()
        replica.finish()
    return replica


def _overload(replica):
    """Have requests come at once until one is refused."""
    with suppress(QueueFull):
        while True:
            replica.arrive()


def test_a_burst_waits_and_is_refused_where_it_goes_on(loop):
    replica = Simulated(loop, 0.001, 0.0, 64)
    for _ in range(8):
        replica.arrive()
        replica.finish()
    for _ in range(1 + 128):
        replica.arrive()
    with pytest.raises(QueueFull, match="overloaded"):
        replica.arrive()
    replica.finish()
    with pytest.raises(QueueFull):
        replica.arrive()
    replica.finish()
    replica.arrive()


def test_nobody_is_refused_for_overload_before_anything_is_known(loop):
    replica = Simulated(loop, 10.0, 0.0, 8)
    for _ in range(1000):
        replica.arrive()


@pytest.mark.parametrize("rows", [1, 8, 6400])
def test_a_request_that_finds_few_is_let_in_however_large_and_slow_they_are(loop, rows):
    replica = Simulated(loop, 100.0, 0.0, 8)
    replica.arrive(rows=64)
    while replica.queue or replica._ends is not None:
        replica.finish()
    for _ in range(8):
        replica.arrive(rows=rows)


def test_so_many_may_wait_as_autoscaling_has_to_see(loop):
    replica = _known(loop)
    replica.admission.may_wait = 20
    _overload(replica)
    while len(replica.queue) >= 20:
        replica.finish()
    while len(replica.queue) < 20:
        replica.arrive()
    with pytest.raises(QueueFull):
        replica.arrive()


@pytest.mark.parametrize("most", [1, 2, 3, 10])
def test_batch_requests_never_keep_interactive_ones_out(loop, most):
    replica = Simulated(loop, 0.1, 0.0, 1, max_queued=most)
    replica.arrive()  # it runs
    waiting = 0
    while True:
        try:
            replica.arrive("batch")
        except QueueFull:
            break
        waiting += 1
    assert waiting == max(1, most // 2)
    for _ in range(most - most // 2):
        replica.arrive()
    with pytest.raises(QueueFull, match=r"limits\.max_queued_requests"):
        replica.arrive()


def test_batch_requests_are_refused_while_there_is_overload(loop):
    replica = _known(loop)
    replica.arrive()
    replica.arrive("batch")
    _overload(replica)
    while replica.queue.interactive.requests >= 8:
        replica.finish()
    with pytest.raises(QueueFull, match="overloaded"):
        replica.arrive("batch")
    replica.arrive()
    refused = replica.admission.take_refused()
    assert refused == {(OVERLOAD, "interactive"): 1, (OVERLOAD, "batch"): 1}
    assert replica.admission.take_refused() == {}


def test_what_is_asked_before_it_is_read_is_let_in_once_it_is(loop):
    replica = Simulated(loop, 0.1, 0.0, 1, max_queued=1)
    replica.arrive()
    replica.admission.look_in("interactive")
    replica.arrive()
    with pytest.raises(QueueFull):
        replica.admission.look_in("interactive")
    assert replica.admission.take_refused() == {(QUEUE_FULL, "interactive"): 1}


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 16),
    st.floats(0.5, 5.0),
    st.floats(0.0, 0.9),
    st.integers(0, 2**16),
)
def test_the_queue_is_never_longer_than_it_may_be(loop, most, largest, load, share, seed):
    replica = Simulated(loop, 0.01, 0.001, largest, max_queued=most)
    chance, at = random.Random(seed), 0.0
    for _ in range(200):
        at += chance.expovariate(load * replica.capacity)
        replica.go_on_until(at)
        try:
            replica.arrive("batch" if chance.random() < share else "interactive")
        except QueueFull:
            continue
        assert replica.queue.batch.requests <= max(1, most // 2)
        assert len(replica.queue) <= max(2, most)
