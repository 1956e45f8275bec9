"""What a fault cost, by made-up outcomes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reliability.figures import LEAST_LATE_S, cost_of, late_bound_s, percentile
from reliability.load import Outcome


def at(second, took_s=0.01, failure=""):
    return Outcome(second, took_s, "m", failure)


STEADY = [at(100 + index / 100) for index in range(1000)]  # ten seconds of a hundred a second


def test_nothing_that_happened_before_the_fault_counts():
    cost = cost_of([at(99, failure="status 503"), *STEADY], began_s=100, late_s=0.05)
    assert (cost.sent, cost.failed.total(), cost.late, cost.recovered_s) == (1000, 0, 0, 0.0)


def test_a_request_that_was_under_way_counts():
    """It is the one that a killed replica had."""
    under_way = at(99.5, took_s=0.6, failure="status 502")
    cost = cost_of([under_way, *STEADY], began_s=100, late_s=0.05)
    assert cost.failed == {"status 502": 1}
    assert cost.recovered_s == 1.0


def test_failures_are_counted_by_kind_and_are_not_late():
    bad = [at(100.5, 9.0, "status 503"), at(102.5, 9.0, "status 503"), at(103, 9.0, "wrong answer")]
    cost = cost_of([*STEADY, *bad], began_s=100, late_s=0.05)
    assert cost.failed == {"status 503": 2, "wrong answer": 1}
    assert cost.late == 0
    assert cost.slowest_s == 9.0


def test_recovery_ends_with_the_last_second_that_had_a_failure():
    cost = cost_of([*STEADY, at(103.2, failure="status 503")], began_s=100, late_s=0.05)
    assert cost.recovered_s == 4.0


def test_recovery_waits_for_the_p99():
    """One of a hundred above the bound leaves the p99 below it; two do not."""
    one = [*STEADY, at(105.001, took_s=1.0)]
    assert cost_of(one, began_s=100, late_s=0.05).recovered_s == 0.0
    two = [*one, at(105.002, took_s=1.0), at(105.003, took_s=1.0)]
    cost = cost_of(two, began_s=100, late_s=0.05)
    assert (cost.late, cost.recovered_s) == (3, 6.0)


def test_late_is_five_times_the_p99_before_and_never_next_to_nothing():
    assert late_bound_s([at(1, took_s=0.04)] * 200) == pytest.approx(0.2)
    assert late_bound_s([at(1, took_s=0.001)] * 200) == LEAST_LATE_S
    assert late_bound_s([at(1, failure="status 503")]) == LEAST_LATE_S
    assert late_bound_s([]) == LEAST_LATE_S


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_has_its_share_at_or_below(values, share):
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
