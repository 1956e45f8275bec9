"""Records the metrics of one replica through Ray's exporter.

Called with the names of the table in metrics: by request_metrics, and by the replica's model,
version_metrics and gateway.

Ray never lets go of a counter or a histogram: their series would stay on the page for as long as
the node lives, for every version and every replica that ever was. Its gauges go once nobody tells
them any more. So counters and histograms are summed here, exactly, and told as gauges that have the
names of theirs; what went is told no longer.
"""

import logging
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ray.serve import metrics as ray_metrics

from serve.telemetry.metrics import METRICS, Metric

log = logging.getLogger("ray.serve")

# Ray's agent drops a gauge that it has not heard of for two of its periods of 10 s. So each series
# is told again in one of so many flushes though it has not changed: of one a second, or, for the
# models of a pool, of one in five.
_REFRESH_EVERY = 5
_REFRESH_EVERY_IN_POOL = 2
# What a version that went keeps its series for: scrapes see its last values.
_LEAVES_AFTER_S = 60.0


@dataclass(slots=True, eq=False)
class Sum:
    """What a counter has come to; exported from the start, as 0."""

    name: str
    tags: dict[str, str]
    value: float = 0.0
    told: list[float] = field(default_factory=list)

    def add(self, amount: float = 1) -> None:
        self.value += amount

    def series(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Return the instrument, tags and value of each of its series."""
        yield f"{self.name}_total", self.tags, self.value


@dataclass(slots=True, eq=False)
class Distribution:
    """What a histogram has come to: values by bucket, the last of which has no bound."""

    name: str
    tags: dict[str, str]
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    told: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def series(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Return the instrument, tags and value of each of its series."""
        counts, total = list(self.counts), self.total
        below = 0
        for bound, count in zip((*map(str, map(float, self.bounds)), "+Inf"), counts, strict=True):
            below += count
            yield f"{self.name}_bucket", {**self.tags, "le": bound}, below
        yield f"{self.name}_count", self.tags, below
        yield f"{self.name}_sum", self.tags, total


Key = tuple[str, frozenset[tuple[str, str]]]
_Summed = TypeVar("_Summed", Sum, Distribution)


class Recorder:
    """The metrics of one model's replica; the methods take a table's name.

    Made `beside` another one of the same process, it has its instruments: a pool has many.

    Counters and histograms are summed here and told to Ray by `flush`: every value that goes to Ray
    costs about 20 us, which at thousands of requests a second is time that the model could have.
    Whatever Ray raises ends here, in the log once: a model serves without its figures.
    """

    def __init__(self, model: str, beside: "Recorder | None" = None) -> None:
        self._model = model
        self._sums: dict[Key, Sum] = {}
        self._distributions: dict[Key, Distribution] = {}
        # Those of a recorder in the same process will do: what they are of, tags tell.
        self._instruments: dict[str, Any] = beside._instruments if beside else _all_instruments()
        self._refresh_every = _REFRESH_EVERY_IN_POOL if beside else _REFRESH_EVERY
        self._flushes = 0
        self._leaving: dict[str, float] = {}  # versions that went, and when
        self._has_complained = False

    def sum(self, name: str, **tags: str) -> Sum:
        """Return a counter's sum, for those who add to it often."""
        key = name, frozenset(tags.items())
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = Sum(name, {"model": self._model, **tags})
        return found

    def count(self, name: str, amount: float = 1, **tags: str) -> None:
        self.sum(name, **tags).add(amount)

    def observe(self, name: str, value: float, **tags: str) -> None:
        self.distribution(name, **tags).add(value)

    def distribution(self, name: str, **tags: str) -> Distribution:
        """Return what a histogram has come to, for those who add to it often."""
        key = name, frozenset(tags.items())
        found = self._distributions.get(key)
        if found is None:
            bounds = METRICS[name].buckets
            found = Distribution(
                name, {"model": self._model, **tags}, bounds, [0] * (len(bounds) + 1)
            )
            self._distributions[key] = found
        return found

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Set a gauge, again and again: Ray drops one that it has not heard of for 20 s."""
        self._tell(name, {"model": self._model, **tags}, value)

    def flush(self) -> None:
        """Tell Ray what has changed, and a part of what has not; called every second, or five.

        It may run in a thread. What Ray does not take is told again the next time.
        """
        self._flushes += 1
        for index, summed in enumerate(self._summed()):
            is_its_turn = (index + self._flushes) % self._refresh_every == 0
            self._tell_all(summed, is_its_turn)

    def retain(self, versions: Collection[str]) -> None:
        """Let go of the series of all other versions, once these have been gone for a minute."""
        now = time.monotonic()
        known = {summed.tags["version"] for summed in self._summed() if "version" in summed.tags}
        gone = known - set(versions)
        self._leaving = {version: self._leaving.get(version, now) for version in gone}
        left = {version for version, at in self._leaving.items() if now - at >= _LEAVES_AFTER_S}
        if left:
            self._sums = _without(self._sums, left)
            self._distributions = _without(self._distributions, left)

    def _summed(self) -> list[Sum | Distribution]:
        return [*self._sums.values(), *self._distributions.values()]

    def _tell_all(self, summed: Sum | Distribution, is_its_turn: bool) -> None:
        before = summed.told
        told = []
        for index, (instrument, tags, value) in enumerate(summed.series()):
            is_new = index >= len(before) or before[index] != value
            if not (is_new or is_its_turn) or self._tell(instrument, tags, value):
                told.append(value)
            else:
                told.append(-1.0)  # which no sum is, so that it is told again
        summed.told = told

    def _tell(self, instrument: str, tags: dict[str, str], value: float) -> bool:
        try:
            self._instruments[instrument].set(value, tags=tags)
        except Exception as err:
            if not self._has_complained:
                log.warning("a metric cannot be exported: %s; said once", err, exc_info=err)
            self._has_complained = True
            return False
        return True


def _without(kept: Mapping[Key, _Summed], versions: Collection[str]) -> dict[Key, _Summed]:
    return {
        key: summed for key, summed in kept.items() if summed.tags.get("version") not in versions
    }


def _all_instruments() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, metric in METRICS.items():
        found |= _instruments(name, metric)
    return found


def _instruments(name: str, metric: Metric) -> dict[str, Any]:
    """Return Ray's gauges for a metric of the table, by their names."""
    if metric.kind == "histogram":
        with_bound = (*metric.tags, "le")
        names = {f"{name}_bucket": with_bound, f"{name}_count": metric.tags}
        names[f"{name}_sum"] = metric.tags
    else:
        names = {f"{name}_total" if metric.kind == "counter" else name: metric.tags}
    return {
        each: ray_metrics.Gauge(each, description=metric.help, tag_keys=tags)
        for each, tags in names.items()
    }
