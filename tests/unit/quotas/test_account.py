import asyncio

import pytest

from serve.errors import CountsAway, OverQuota
from serve.quotas.account import Account, Taken
from serve.quotas.count import Count
from serve.quotas.limits import COMPUTE, ROWS, Limit

LIMITS = (Limit(ROWS, "web", None, 9), Limit(COMPUTE, "web", None, 5))


class Counts:
    """Answers what a test says, and writes down what it is told."""

    def __init__(self, *waits, is_shared=True):
        self.calls = []
        self._waits = waits
        self._is_shared = is_shared

    async def take(self, limits, rows):
        self.calls.append(("take", rows))
        if not self._waits:
            return Taken(None, is_shared=False)
        counts = [
            Count(limit, 4.0, 1.0, wait) for limit, wait in zip(limits, self._waits, strict=True)
        ]
        return Taken(counts, self._is_shared)

    def give_back(self, limits, rows):
        self.calls.append(("give back", rows))

    def charge(self, limits, seconds):
        self.calls.append(("charge", seconds))


def test_a_request_that_fits_is_told_what_is_left():
    counts = Counts(0, 0)
    account = Account(counts, LIMITS)
    asyncio.run(account.admit(3))
    account.charge(0.5)
    assert counts.calls == [("take", 3), ("charge", 0.5)]
    assert dict(account.headers)[b"ratelimit"].startswith(b'"rows";r=4')
    assert (account.refused, account.is_shared) == (None, True)


def test_rows_come_back_that_nothing_has_computed():
    counts = Counts(0, 0)
    for charged in (False, True):
        account = Account(counts, LIMITS)
        asyncio.run(account.admit(3))
        if charged:
            account.charge(0.5)
        account.give_back()
    assert counts.calls == [("take", 3), ("give back", 3), ("take", 3), ("charge", 0.5)]


@pytest.mark.parametrize(("waits", "kind"), [((2, 0), ROWS), ((0, 9), COMPUTE), ((1, 9), COMPUTE)])
def test_one_that_does_not_is_refused_for_the_limit_that_takes_longest(waits, kind):
    account = Account(Counts(*waits), LIMITS)
    with pytest.raises(OverQuota, match=f"come back in {max(waits)} s"):
        asyncio.run(account.admit(3))
    assert account.refused == kind
    assert dict(account.headers)[b"retry-after"] == b"%d" % max(waits)


def test_what_cannot_be_counted_is_refused_and_no_fault_of_the_tenant():
    account = Account(Counts(), LIMITS)
    with pytest.raises(CountsAway, match="the tenant web"):
        asyncio.run(account.admit(3))
    assert (account.refused, account.is_shared, account.headers) == ("uncounted", False, [])


def test_what_was_counted_elsewhere_is_written_down():
    account = Account(Counts(0, 0, is_shared=False), LIMITS)
    asyncio.run(account.admit(3))
    assert not account.is_shared
