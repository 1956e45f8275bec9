import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.quotas import local_counts as module
from serve.quotas.count import NEVER
from serve.quotas.days import DAY_S
from serve.quotas.ledger import Told
from serve.quotas.limits import COMPUTE, ROWS, Limit
from serve.quotas.local_counts import LocalCounts

NOON = 20_000 * DAY_S + DAY_S / 2


class Clocks:
    """A replica's counts, ten seconds after it started, and its clocks."""

    def __init__(self, replicas=1):
        self.now, self.wall = 100.0, NOON
        self.counts = LocalCounts(lambda: self.now, lambda: self.wall)
        self.counts.at_most = {None: replicas, "m": replicas}
        self.now += 10

    def lets(self, limit, rows=1):
        """Tell whether a request is let through, and count it."""
        (count,) = self.counts.take([limit], rows)
        return not count.wait_s


def rows_of(amount, model="m"):
    return Limit(ROWS, "web", model, amount)


def seconds_of(amount):
    return Limit(COMPUTE, "web", "m", amount)


@given(
    st.integers(1, 6),
    st.integers(1, 500),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5), st.integers(1, 100)), max_size=80),
)
def test_the_parts_of_all_replicas_are_no_more_than_the_limit(replicas, amount, steps):
    limit = rows_of(amount)
    everybody = [Clocks(replicas) for _ in range(replicas)]
    passed = []
    for waited, which, rows in steps:
        for one in everybody:
            one.now += waited
        fits = min(rows, max(1, amount // replicas))
        if fits <= amount / replicas and everybody[which % replicas].lets(limit, fits):
            passed.append((everybody[0].now, fits))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            seconds = passed[last][0] - passed[first][0]
            total = sum(rows for _, rows in passed[first : last + 1])
            assert total <= amount * (seconds + 1) + 1e-6


def test_a_request_above_a_replicas_part_is_let_through_and_paid_for():
    one = Clocks(replicas=4)
    limit = rows_of(40)
    assert one.lets(limit, 40)
    one.now += 2.9
    assert not one.lets(limit, 1)
    one.now += 1.2
    assert one.lets(limit, 10)


def test_one_above_the_limit_never_is_and_takes_nothing():
    one = Clocks()
    (count,) = one.counts.take([rows_of(40)], 41)
    assert (count.wait_s, count.left) == (NEVER, 40)
    assert one.lets(rows_of(40), 40)


@pytest.mark.parametrize("limit", [rows_of(0), seconds_of(0)])
@pytest.mark.parametrize("rows", [0, 1])
def test_a_limit_of_zero_lets_nothing_through(limit, rows):
    (count,) = Clocks().counts.take([limit], rows)
    assert count.wait_s == NEVER


def test_rows_are_taken_of_all_limits_or_of_none():
    one = Clocks()
    wide, narrow = rows_of(100, None), rows_of(10)
    assert [count.left for count in one.counts.take([wide, narrow], 10)] == [90, 0]
    refused = one.counts.take([wide, narrow], 1)
    assert [bool(count.wait_s) for count in refused] == [False, True]
    assert refused[0].left == 90


def test_rows_that_were_not_computed_come_back():
    one = Clocks()
    assert one.lets(rows_of(10), 10)
    one.counts.give_back([rows_of(10), seconds_of(1)], 10)
    assert one.lets(rows_of(10), 10)


def test_a_replica_that_starts_does_not_come_with_a_burst():
    one = Clocks()
    one.now -= 10  # it has just started
    assert not one.lets(rows_of(10), 10)
    one.now += 1
    assert one.lets(rows_of(10), 10)


def test_seconds_are_spent_until_midnight_and_there_again_after_it():
    one, limit = Clocks(), seconds_of(2)
    one.counts.charge([limit], 1.9)
    assert one.lets(limit)
    one.counts.charge([limit], 0.2)
    (count,) = one.counts.take([limit], 1)
    assert count.wait_s == count.fresh_s == DAY_S / 2
    one.wall += DAY_S / 2
    assert one.lets(limit)


def test_a_clock_that_jumps_back_over_midnight_brings_nothing_back():
    one, limit = Clocks(), seconds_of(2)
    one.counts.charge([limit], 2)
    for day in (1, 0, 1, 0, -1, 0):
        one.wall = NOON + day * DAY_S
        one.lets(limit)
    assert not one.lets(limit)
    (count,) = one.counts.take([limit], 1)
    assert 0 < count.wait_s <= DAY_S


def test_what_others_spent_counts_as_soon_as_it_is_told():
    one, limit = Clocks(), seconds_of(2)
    one.counts.charge([limit], 0.5)
    report = one.counts.report("r", ["m"])
    assert report.spent == {limit.key: (0.5, 0.0)}
    one.counts.hear(report, Told("ledger", {None: 3, "m": 2}, {limit.key: 1.6}))
    assert not one.lets(limit)
    assert (one.counts.replicas("m"), one.counts.replicas(None)) == (2, 3)
    assert one.counts.report("r", ["m"]).spent == {limit.key: (0.5, 1.6)}, "it was asked for"
    assert one.counts.report("r", ["m"]).spent == {}, "nobody has used it since"


def test_a_report_that_was_in_vain_is_made_again_and_what_is_known_stays():
    one, limit = Clocks(), seconds_of(2)
    one.counts.charge([limit], 0.5)
    first = one.counts.report("r", ["m"])
    one.counts.hear(first, Told("ledger", {None: 5, "m": 5}, {}))
    one.counts.charge([limit], 0.5)
    one.counts.hear(one.counts.report("r", ["m"]), None)
    assert one.counts.report("r", ["m"]).spent == {limit.key: (1.0, 0.0)}
    assert one.counts.replicas("m") == 5


def test_a_gateway_that_does_not_know_the_replicas_yet_changes_nothing():
    one = Clocks(replicas=7)
    one.counts.hear(one.counts.report("r", ["m"]), Told("ledger"))
    assert one.counts.replicas("m") == one.counts.replicas(None) == 7
    one.counts.hear(one.counts.report("r", ["m"]), Told("ledger", {None: 3, "m": 2}))
    one.counts.hear(one.counts.report("r", ["m"]), Told("another"))
    assert (one.counts.replicas("m"), one.counts.replicas(None)) == (2, 3)


def test_a_new_gateway_is_told_everything():
    one, limit = Clocks(), seconds_of(2)
    one.counts.charge([limit], 0.5)
    one.counts.hear(one.counts.report("r", ["m"]), Told("first"))
    assert one.counts.report("r", ["m"]).spent == {}
    one.counts.hear(one.counts.report("r", ["m"]), Told(None))
    assert one.counts.report("r", ["m"]).spent == {limit.key: (0.5, 0.0)}


def test_buckets_that_are_full_again_are_let_go_of_and_those_that_are_not_stay(monkeypatch):
    monkeypatch.setattr(module, "_MOST_BUCKETS", 10)
    one = Clocks(replicas=50)
    one.counts._sweep_at = 10
    owing = Limit(ROWS, "owing", "m", 100)
    assert one.lets(owing, 100)  # of 2 that are there, and 2 come in a second
    for index in range(60):
        one.now += 0.5
        assert one.lets(Limit(ROWS, f"t{index}", "m", 50), 1)
        assert len(one.counts._buckets) <= 11
    assert not one.lets(owing, 1)
