import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.quotas.buckets import Bucket

STEPS = st.lists(
    st.tuples(st.floats(0, 3), st.integers(0, 120)), min_size=1, max_size=60
)  # seconds since the one before, rows


def let_through(steps, rate):
    """Return the times and rows of those that a bucket lets through; it was made long before."""
    bucket, now, passed = Bucket(-10.0), 0.0, []
    for waited, rows in steps:
        now += waited
        bucket.fill(rate, now)
        if not bucket.wait_s(rows, rate):
            bucket.left -= rows
            passed.append((now, rows))
    return passed


@given(STEPS, st.integers(120, 300))
def test_within_any_seconds_no_more_go_out_than_the_rate_and_a_burst_of_one_second(steps, rate):
    passed = let_through(steps, rate)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            rows = sum(rows for _, rows in passed[first : last + 1])
            seconds = passed[last][0] - passed[first][0]
            assert rows <= rate * (seconds + 1) + 1e-6


@given(STEPS, st.integers(1, 119))
def test_a_request_above_the_brim_is_paid_for_before_the_next_one(steps, rate):
    passed = let_through(steps, rate)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            before = sum(rows for _, rows in passed[first:last])
            largest = max(rate, passed[last][1])
            seconds = passed[last][0] - passed[first][0]
            assert before + passed[last][1] <= rate * seconds + rate + largest + 1e-6
            # What went before the last one is paid for but for a brim.
            assert before <= rate * (seconds + 1) + 1e-6


@given(st.integers(0, 100), st.integers(1, 100), st.floats(0, 10))
def test_who_waits_as_long_as_told_is_let_through(rows, rate, waited):
    bucket = Bucket(0.0)
    bucket.fill(rate, waited)
    wait_s = bucket.wait_s(rows, rate)
    bucket.fill(rate, waited + wait_s * (1 + 1e-9) + 1e-9)
    assert not bucket.wait_s(rows, rate)


def test_a_clock_that_goes_back_brings_nothing_and_takes_nothing():
    bucket = Bucket(100.0)
    bucket.fill(10, 100.5)
    assert bucket.left == pytest.approx(5)
    bucket.fill(10, 3.0)
    assert bucket.left == pytest.approx(5)
    bucket.fill(10, 3.1)
    assert bucket.left == pytest.approx(6)


def test_a_lower_rate_counts_at_once():
    bucket = Bucket(0.0)
    bucket.fill(100, 5)
    bucket.fill(10, 5)
    assert bucket.left == 10
