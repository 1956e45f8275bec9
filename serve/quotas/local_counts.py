"""Counts in one replica: its part of the rows, and all seconds of compute as far as it knows.

Where nothing is shared (redis_counts), each replica lets through the limit divided by the replicas
that there are: parts that add up to no more than the limit. Seconds are not divided: replicas tell
the gateway once a second what they spent, and hear what the others did (ledger).
"""

import time
from collections.abc import Callable, Sequence

from serve.quotas.buckets import Bucket
from serve.quotas.count import NEVER, Count
from serve.quotas.days import Days, day_of, left_of_day_s
from serve.quotas.ledger import Report, Told
from serve.quotas.limits import ROWS, Limit

# Tenants come and go: of more buckets than this, those are let go that are full again.
_MOST_BUCKETS = 10_000


class LocalCounts:
    """What was taken and spent here; all methods run on the replica's event loop.

    `at_most` are the most replicas that there can be, by model and for None in all; they count
    until it is known how many there are.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.at_most: dict[str | None, int] = {}
        self._clock = clock
        self._wall_clock = wall_clock
        # Buckets fill from here on: a replica that starts anew does not come with a full one.
        self._born = clock()
        self._buckets: dict[str, Bucket] = {}
        self._sweep_at = _MOST_BUCKETS
        self._own, self._others = Days(), Days()
        self._untold: set[str] = set()
        self._replicas: dict[str | None, int] = {}
        self._ledger: str | None = None

    def replicas(self, model: str | None) -> int:
        """Return by how many replicas a limit is divided, of a model or for None of all models."""
        return max(1, self._replicas.get(model) or self.at_most.get(model, 1))

    def take(self, limits: Sequence[Limit], rows: int) -> list[Count]:
        """Return what the limits have left; rows are taken of all of them, or of none."""
        counts = [
            self._rows_left(limit, rows) if limit.kind == ROWS else self._seconds_left(limit)
            for limit in limits
        ]
        if not any([count.wait_s for count in counts]):
            for count in counts:
                if count.limit.kind == ROWS:
                    self._buckets[count.limit.key].left -= rows
                    count.left -= rows
        return counts

    def want(self, limits: Sequence[Limit]) -> None:
        """Have the next report ask what others spent of the limits."""
        for limit in limits:
            if limit.kind != ROWS:
                self._untold.add(limit.key)

    def _rows_left(self, limit: Limit, rows: int) -> Count:
        if not limit.amount:
            return Count(limit, 0.0, 1.0, NEVER)
        rate = limit.amount / self.replicas(limit.model)
        bucket = self._buckets.get(limit.key) or self._bucket(limit.key)
        bucket.fill(rate, self._clock())
        wait_s = NEVER if rows > limit.amount else bucket.wait_s(rows, rate)
        return Count(limit, bucket.left, 1.0, wait_s)

    def _bucket(self, key: str) -> Bucket:
        if len(self._buckets) >= self._sweep_at:
            self._sweep()
        bucket = self._buckets[key] = Bucket(self._born)
        return bucket

    def _sweep(self) -> None:
        """Let go of buckets that are full again: a new one would be, too."""
        full_since = self._clock() - 1.0
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.at > full_since or bucket.left < 0
        }
        self._sweep_at = max(_MOST_BUCKETS, 2 * len(self._buckets))

    def _seconds_left(self, limit: Limit) -> Count:
        self._untold.add(limit.key)  # who asks wants to know what others spent
        wall = self._wall_clock()
        day = day_of(wall)
        left = limit.amount - self._own.spent(day, limit.key) - self._others.spent(day, limit.key)
        fresh_s = left_of_day_s(wall)
        if not limit.amount:
            return Count(limit, left, fresh_s, NEVER)
        return Count(limit, left, fresh_s, 0.0 if left > 0 else fresh_s)

    def give_back(self, limits: Sequence[Limit], rows: int) -> None:
        """Put back rows that were taken and not computed."""
        for limit in limits:
            bucket = self._buckets.get(limit.key)
            if bucket is not None:
                bucket.left += rows

    def charge(self, limits: Sequence[Limit], seconds: float) -> None:
        """Add what a request cost to the day on which it ended."""
        day = day_of(self._wall_clock())
        for limit in limits:
            if limit.kind != ROWS:
                self._own.add(day, limit.key, seconds)
                self._untold.add(limit.key)

    def report(self, replica: str, models: Sequence[str]) -> Report:
        """Return what the gateway is to be told: all that a new gateway cannot know."""
        day = day_of(self._wall_clock())
        keys, self._untold = self._untold, set()
        if self._ledger is None:
            keys |= self._own.keys(day)
        spent = {
            key: (self._own.spent(day, key), self._others.spent(day, key)) for key in sorted(keys)
        }
        return Report(replica, tuple(models), day, spent, self._ledger)

    def hear(self, report: Report, told: Told | None) -> None:
        """Take what the gateway answered to a report, None for a report that was in vain."""
        if told is None:
            self._untold |= report.spent.keys()
            return
        self._ledger = told.ledger
        self._replicas = dict(told.replicas) or self._replicas
        for key, seconds in told.others.items():
            self._others.set(report.day, key, seconds)
