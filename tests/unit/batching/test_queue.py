"""What waits for the engine, and its rows."""

import asyncio
from itertools import dropwhile

from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batching.execution import Entry
from serve.batching.queue import Queue

LARGEST = 8


def _entry(loop, rows, key):
    future = loop.create_future()
    return Entry(signature="serve", inputs={}, rows=rows, key=key, future=future, arrived=0.0)


entries = st.tuples(
    st.just("add"), st.integers(0, LARGEST), st.sampled_from(["image", "text", None])
)
steps = st.lists(
    st.one_of(
        entries,
        st.just(("drop",)),
        st.just(("take",)),
        st.tuples(st.just("finish"), st.integers(0, 20)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whatever_comes_and_goes_batches_are_whole_and_rows_add_up(steps):
    loop = asyncio.new_event_loop()
    queue, expected = Queue(), []
    for step, *values in steps:
        if step == "add":
            expected.append(_entry(loop, *values))
            queue.add(expected[-1])
        elif step == "finish":
            if expected:
                expected[values[0] % len(expected)].finish({})
        else:
            queue.drop_done()
            expected = list(dropwhile(lambda entry: entry.future.done(), expected))
            if step == "take" and expected:
                expected = _checked_take(queue, expected)
        assert len(queue) == len(expected)
        assert queue.rows == sum(entry.rows for entry in expected)
        assert not expected or queue.head is expected[0]
    loop.close()


def _checked_take(queue, expected):
    """Take a batch, hold it to what may be in one, and return what must be left."""
    head = expected[0]
    could_join = [e for e in expected if e.key == head.key and e.key is not None]
    assert queue.rows_like_head(LARGEST) == (
        LARGEST if head.key is None else sum(entry.rows for entry in could_join)
    )
    taken = queue.take(LARGEST)
    assert taken[0] is head
    assert not any(entry.future.done() for entry in taken)
    assert [entry for entry in expected if entry in taken] == taken, "oldest first"
    if len(taken) > 1:
        assert {entry.key for entry in taken} == {head.key}
        assert head.key is not None
        assert sum(entry.rows for entry in taken) <= LARGEST
    left = [e for e in expected if e not in taken and not e.future.done()]
    room = LARGEST - sum(entry.rows for entry in taken)
    if head.key is not None:
        assert all(entry.rows > room for entry in left if entry.key == head.key), "none that fits"
    return left


def test_an_entry_that_runs_by_itself_waits_for_nobody():
    loop = asyncio.new_event_loop()
    queue = Queue()
    queue.add(_entry(loop, 1, None))
    assert queue.rows_like_head(LARGEST) == LARGEST
    loop.close()


def test_what_nobody_waits_for_goes_with_its_rows_up_to_the_first_that_is_waited_for():
    loop = asyncio.new_event_loop()
    queue = Queue()
    gone, also_gone, waits, gone_behind = (_entry(loop, rows, "image") for rows in (1, 2, 4, 8))
    for entry in (gone, also_gone, waits, gone_behind):
        queue.add(entry)
    for entry in (gone, also_gone, gone_behind):
        entry.future.cancel()
    queue.drop_done()
    assert queue.head is waits
    assert (len(queue), queue.rows) == (2, 12)
    loop.close()


def test_a_batch_is_of_one_kind_also_where_the_oldest_entry_has_gone():
    loop = asyncio.new_event_loop()
    queue = Queue()
    gone, text, image = (_entry(loop, 1, key) for key in ("image", "text", "image"))
    for each in (gone, text, image):
        queue.add(each)
    gone.finish({})
    assert queue.take(LARGEST) == [text]
    assert queue.take(LARGEST) == [image]
    assert queue.rows == 0
    loop.close()
