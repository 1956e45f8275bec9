"""What waits for the engine, whose turn it is, and what that costs."""

import asyncio
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batching import queue as module
from serve.batching.execution import Entry
from serve.batching.queue import Queue
from serve.types import PRIORITIES

LARGEST = 8


@pytest.fixture(scope="module")
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def entry(loop):
    def make(rows, key="image", priority="interactive"):
        return Entry(
            signature="serve",
            inputs={"x": np.arange(rows)},
            rows=rows,
            key=key,
            future=loop.create_future(),
            arrived=0.0,
            priority=priority,
        )

    return make


def _batches(queue, largest=LARGEST):
    """Take all that waits; return the batches, each a list of (request, rows)."""
    batches = []
    while queue:
        batches.append([(e.whole or e, e.inputs["x"].tolist()) for e in queue.take(largest)])
    return batches


_ADD = st.tuples(
    st.just("add"),
    st.integers(1, 3 * LARGEST),
    st.sampled_from(["image", "text", None]),
    st.sampled_from(PRIORITIES),
)
_STEPS = st.lists(
    st.one_of(
        _ADD,
        _ADD,
        st.just(("take",)),
        st.tuples(st.sampled_from(["finish", "leave"]), st.integers(0, 20)),
    ),
    max_size=40,
)


class _Drawn:
    """A queue and what was asked of it: the rows that batches have taken of each request."""

    def __init__(self, loop):
        self.loop, self.queue, self.taken = loop, Queue(), {}

    @property
    def waiting(self):
        taken = self.taken.items()
        return [each for each, rows in taken if not each.future.done() and len(rows) < each.rows]

    def add(self, rows, key, priority):
        inputs, future = {"x": np.arange(rows)}, self.loop.create_future()
        new = Entry(
            signature="serve",
            inputs=inputs,
            rows=rows,
            key=key,
            future=future,
            arrived=0.0,
            priority=priority,
        )
        self.taken[new] = []
        self.queue.add(new)

    def take(self):
        if self.waiting:
            urgent = [each for each in self.waiting if each.priority == "interactive"]
            batch = self.queue.take(LARGEST)
            _check_batch(batch)
            _check_priority(batch, urgent)
            for each in batch:
                self.taken[each.whole or each] += each.inputs["x"].tolist()

    def finish(self, number):
        if self.waiting:
            self.waiting[number % len(self.waiting)].finish({})

    def leave(self, number):
        """Finish one and tell the queue, which otherwise has to see for itself."""
        if self.waiting:
            gone = self.waiting[number % len(self.waiting)]
            gone.finish({})
            assert self.queue.discard(gone)
            assert not self.queue.discard(gone)


@settings(max_examples=300, deadline=None)
@given(_STEPS)
def test_whatever_comes_and_goes_each_row_is_taken_once_and_in_order(loop, steps):
    drawn = _Drawn(loop)
    for step, *values in steps:
        getattr(drawn, step)(*values)
    while drawn.waiting:
        drawn.take()
    drawn.queue.drop_done()
    assert (len(drawn.queue), drawn.queue.rows) == (0, 0)
    assert not drawn.queue.interactive.requests
    assert not drawn.queue.batch.requests
    for each, rows in drawn.taken.items():
        assert rows == list(range(each.rows)) or each.future.done()
        assert rows == list(range(len(rows)))


def _check_batch(taken):
    assert taken
    assert not any(each.future.done() for each in taken)
    if len(taken) > 1:
        assert {each.key for each in taken} == {taken[0].key}
        assert taken[0].key is not None
    if taken[0].key is not None:
        assert sum(each.rows for each in taken) <= LARGEST
    for each in taken:
        assert each.whole is None or each.whole.rows > LARGEST, "what fits into a batch is not cut"


def _check_priority(taken, urgent):
    """See that batch requests have what interactive ones left, which is what fits into nothing."""
    if not urgent:
        return
    first = [each.whole or each for each in taken if each.priority == "interactive"]
    assert first, "an interactive request waits, and none was taken"
    free_rows = LARGEST - sum(each.rows for each in taken if each.priority == "interactive")
    left = [each for each in urgent if each.key == taken[0].key and each not in first]
    if taken[-1].priority == "batch":
        assert all(each.rows > free_rows for each in left)


@settings(deadline=None)
@given(st.lists(_ADD, min_size=1, max_size=30))
def test_nobody_waits_for_more_than_a_batch_of_each_of_the_others(loop, added):
    queue, keys, turns = Queue(), {}, {}
    for _, rows, key, _ in added:
        new = Entry(
            signature="serve",
            inputs={"x": np.arange(rows)},
            rows=rows,
            key=key,
            future=loop.create_future(),
            arrived=0.0,
        )
        queue.add(new)
        keys[new] = key or new
    for turn, batch in enumerate(_batches(queue)):
        for request, _ in batch:
            turns.setdefault(request, turn)
    lanes = list(keys.values())
    for request, key in keys.items():
        assert turns[request] < len(set(lanes)) * lanes.count(key)


def test_pieces_of_a_large_request_take_turns_with_the_requests_of_others(entry):
    queue = Queue()
    large, one, two, also_large = entry(20), entry(1), entry(2), entry(12)
    for each in (large, one, two, also_large):
        queue.add(each)
    assert queue.rows == 35
    assert _batches(queue) == [
        [(large, [0, 1, 2, 3, 4, 5, 6, 7])],
        [(one, [0]), (two, [0, 1]), (also_large, [0, 1, 2, 3, 4])],
        [(large, [8, 9, 10, 11, 12, 13, 14, 15])],
        [(also_large, [5, 6, 7, 8, 9, 10, 11]), (large, [16])],
        [(large, [17, 18, 19])],
    ]
    assert queue.rows == 0


def test_batch_requests_fill_what_interactive_ones_leave(entry):
    queue = Queue()
    fills, too_large, also_fills = (entry(rows, priority="batch") for rows in (2, 4, 1))
    for each in (fills, too_large, also_fills, entry(1, "text", "batch")):
        queue.add(each)
    urgent, alone = entry(5), entry(1, None)
    queue.add(urgent)
    queue.add(alone)
    assert queue.rows_like_head(LARGEST) == 12
    assert queue.take(LARGEST) == [urgent, fills, also_fills]
    assert queue.take(LARGEST) == [alone]
    assert queue.head.key == "text"
    assert [each.rows for each in queue.take(LARGEST)] == [1]
    assert queue.take(LARGEST) == [too_large]
    assert not queue


def test_of_a_large_batch_request_as_much_is_taken_as_is_free(entry):
    queue = Queue()
    large = entry(20, priority="batch")
    queue.add(large)
    queue.add(entry(5))
    assert [each.rows for each in queue.take(LARGEST)] == [5, 3]
    queue.add(entry(8))
    assert [each.rows for each in queue.take(LARGEST)] == [8]
    assert [each.rows for each in queue.take(LARGEST)] == [8]
    assert (queue.batch.requests, queue.rows) == (1, 9)


def test_lanes_take_turns_however_much_waits_in_one(entry):
    queue = Queue()
    image, text, alone = entry(20), entry(1, "text"), entry(1, None)
    for each in (image, text, alone):
        queue.add(each)
    order = [[request for request, _ in batch] for batch in _batches(queue)]
    assert order == [[image], [text], [alone], [image], [image]]


def test_a_large_request_counts_as_one(entry):
    queue = Queue()
    queue.add(entry(100 * LARGEST))
    assert len(queue) == 1
    queue.take(LARGEST)
    assert (len(queue), queue.rows) == (1, 99 * LARGEST)


def test_what_does_not_fit_beside_the_oldest_stays_in_its_place(entry):
    queue = Queue()
    five, four, six, three = (entry(rows) for rows in (5, 4, 6, 3))
    for each in (five, four, six, three):
        queue.add(each)
    order = [[request for request, _ in batch] for batch in _batches(queue)]
    assert order == [[five, three], [four], [six]]


def test_an_entry_that_runs_by_itself_waits_for_nobody(entry):
    queue = Queue()
    queue.add(entry(1, None))
    assert queue.rows_like_head(LARGEST) == LARGEST


def test_what_nobody_waits_for_goes_with_its_rows_up_to_the_first_that_is_waited_for(entry):
    queue = Queue()
    gone, also_gone, waits, gone_behind = (entry(rows) for rows in (1, 2, 4, 8))
    for each in (gone, also_gone, waits, gone_behind):
        queue.add(each)
    for each in (gone, also_gone, gone_behind):
        each.future.cancel()
    queue.drop_done()
    assert queue.head is waits
    assert (len(queue), queue.rows) == (2, 12)


def test_a_batch_is_of_one_kind_also_where_the_oldest_entry_has_gone(entry):
    queue = Queue()
    gone, text, image = (entry(1, key) for key in ("image", "text", "image"))
    for each in (gone, text, image):
        queue.add(each)
    gone.finish({})
    batches = [queue.take(LARGEST), queue.take(LARGEST)]
    assert sorted(batches, key=lambda batch: batch[0].key) == [[image], [text]]
    assert queue.rows == 0


def _steps(work):
    """Return how many lines of the queue's module some work runs through."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_code.co_filename != module.__file__:
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize(
    "sizes",
    [(1,), (LARGEST - 1,), (LARGEST,), (50 * LARGEST,), (1, LARGEST - 1), (50 * LARGEST, 1, 1)],
)
def test_a_batch_costs_the_same_however_much_waits(entry, sizes):
    costs = []
    for waiting in (20, 2000):
        queue = Queue()
        for index in range(waiting):
            queue.add(entry(sizes[index % len(sizes)], "image" if index % 5 else "text"))
        many = entry(50 * LARGEST)
        queue.add(many)
        costs.append(_steps(lambda queue=queue: [queue.take(LARGEST) for _ in range(3)]))
        costs[-1] += _steps(lambda queue=queue, many=many: queue.discard(many))
    assert costs[1] <= 10 * costs[0]


def test_a_request_costs_no_more_than_its_batches(entry):
    queue = Queue()
    queue.add(entry(1000 * LARGEST))
    steps = _steps(lambda: _batches(queue))
    assert steps < 60 * 1000
