"""What the gateway knows of all replicas that keep quotas: which there are, and what they spent.

Each replica reports once a second. Sums are told, not differences, so that a report may be lost or
come twice. A gateway that has just started does not know all replicas yet: until each has had the
time to report it says nothing, and replicas go on with what they know. What it did not hear from
those that are there was spent by replicas that are gone, which the gateway before it had told.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# A replica is there for as long as this after a report; by then a new gateway has heard of all.
REMEMBERED_S = 10.0
_DAYS_KEPT = 3


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica says: the models that it serves, and what it spent on a day.

    `spent` has by key its own seconds, and those of others as far as it heard. `ledger` is the one
    that it reported to before, None where it tells all that it has.
    """

    replica: str
    models: tuple[str, ...]
    day: int
    spent: Mapping[str, tuple[float, float]]
    ledger: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a replica hears: how many replicas there are, and what the others spent.

    `replicas` are by model, and for None in all. Both are empty where they are not known yet.
    `ledger` is None where the replica is to tell everything the next time.
    """

    ledger: str | None
    replicas: Mapping[str | None, int] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Sums:
    """Seconds of one key on one day: by replica, of replicas that are gone, as far as was said."""

    own: dict[str, float] = field(default_factory=dict)
    gone: float | None = None
    said: float = 0.0


class Ledger:
    """Adds up the reports of all replicas."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = uuid.uuid4().hex
        self._clock = clock
        self._began = clock()
        self._replicas: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._days: dict[int, dict[str, _Sums]] = {}

    def take(self, report: Report) -> Told:
        """Return what a replica is told that reports."""
        now = self._clock()
        self._replicas[report.replica] = now, report.models
        for key, (own, others) in report.spent.items():
            sums = self._day(report.day).setdefault(key, _Sums())
            sums.own[report.replica] = max(own, sums.own.get(report.replica, 0.0))
            sums.said = max(sums.said, own + others)
        ledger = self.name if report.ledger in (self.name, None) else None
        if now - self._began < REMEMBERED_S:
            return Told(ledger)
        return Told(ledger, self._there(report, now), self._others(report))

    def _day(self, day: int) -> dict[str, _Sums]:
        if day not in self._days:
            self._days[day] = {}
            for old in list(self._days)[:-_DAYS_KEPT]:
                del self._days[old]
        return self._days[day]

    def _there(self, report: Report, now: float) -> dict[str | None, int]:
        self._replicas = {
            replica: (at, models)
            for replica, (at, models) in self._replicas.items()
            if now - at < REMEMBERED_S
        }
        served = [models for _, models in self._replicas.values()]
        return {
            None: len(served),
            **{model: sum(model in models for models in served) for model in report.models},
        }

    def _others(self, report: Report) -> dict[str, float]:
        return {key: self._others_of(report, key) for key in report.spent}

    def _others_of(self, report: Report, key: str) -> float:
        sums = self._days[report.day][key]
        total = sum(sums.own.values())
        if sums.gone is None:
            sums.gone = max(0.0, sums.said - total)
        return total - sums.own[report.replica] + sums.gone
