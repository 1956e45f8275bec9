"""What a call is expected to take: nothing is expected of what was never seen."""

import asyncio

import numpy as np
import pytest

from serve.batching.estimates import Estimates
from serve.batching.execution import Entry
from serve.batching.merging import shape_key


@pytest.fixture
def entry():
    loop = asyncio.new_event_loop()

    def make(array, rows=None, signature="serve"):
        inputs = {"x": np.asarray(array)}
        key = shape_key(signature, inputs) if rows is None else None
        rows = len(inputs["x"]) if rows is None else rows
        future = loop.create_future()
        return Entry(
            signature=signature, inputs=inputs, rows=rows, key=key, future=future, arrived=0.0
        )

    yield make
    loop.close()


def _strings(*items):
    return np.array(items, object)


def test_a_call_of_the_same_kind_takes_what_the_slowest_of_late_took(entry):
    estimates = Estimates((1, 2, 4))
    three = entry(np.zeros((3, 5)))
    assert estimates.seconds(three) is None
    estimates.learn([three], 0.1)
    estimates.learn([entry(np.zeros((1, 5))), entry(np.zeros((3, 5)))], 0.01)
    assert 0.09 < estimates.seconds(three) < 0.1
    assert estimates.seconds(entry(np.zeros((4, 5)))) == estimates.seconds(three), "padded alike"
    for _ in range(100):
        estimates.learn([three], 0.01)
    assert estimates.seconds(three) == 0.01


@pytest.mark.parametrize(
    ("known", "other"),
    [
        (np.zeros((1, 16)), np.zeros((1, 4096))),
        (np.zeros((1, 16)), np.zeros((2, 16))),
        (np.zeros((1, 16)), np.zeros((1, 4, 4))),
        (np.zeros((1, 16)), np.zeros((1, 16), np.float32)),
        (_strings(b"short"), _strings(b"long" * 1000)),
    ],
)
def test_what_differs_in_any_size_is_not_expected_to_be_as_quick(entry, known, other):
    estimates = Estimates((1, 2, 4))
    estimates.learn([entry(known)], 0.001)
    assert estimates.seconds(entry(known)) == 0.001
    assert estimates.seconds(entry(other)) is None
    assert estimates.seconds(entry(known, signature="other")) is None


def test_what_runs_by_itself_is_known_by_its_whole_shape(entry):
    estimates = Estimates((1, 2, 4))
    estimates.learn([entry(np.zeros(16), rows=1)], 0.001)
    assert estimates.seconds(entry(np.zeros(16), rows=1)) == 0.001
    assert estimates.seconds(entry(np.zeros(160_000), rows=1)) is None


def test_strings_of_about_the_same_length_are_alike(entry):
    estimates = Estimates((1, 2, 4))
    estimates.learn([entry(_strings(b"x" * 40))], 0.001)
    assert estimates.seconds(entry(_strings(b"y" * 60))) == 0.001


def test_as_many_kinds_are_kept_as_are_used_of_late(entry):
    estimates = Estimates((1,))
    short = entry(np.zeros((1, 1)))
    for length in range(2, 5000):
        estimates.learn([short], 0.001)
        estimates.learn([entry(np.zeros((1, length)))], 0.1)
    assert estimates.seconds(short) == 0.001
    assert len(estimates._seconds) <= 512
