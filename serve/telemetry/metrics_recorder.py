"""Records the metrics of one replica through Ray's exporter.

Called with the names of the table in metrics: by request_metrics, and by the replica's model,
version_metrics and gateway.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.serve import metrics as ray_metrics

from serve.telemetry.metrics import METRICS, Metric

log = logging.getLogger("ray.serve")


@dataclass(slots=True, eq=False)
class Sum:
    """What a counter has gained since Ray was last told; exported from the start, as 0."""

    name: str
    tags: dict[str, str]
    gained: float = 0.0
    is_known: bool = False

    def add(self, amount: float = 1) -> None:
        self.gained += amount


class Recorder:
    """The metrics of one model's replica; the methods take a table's name.

    Counters are summed here and handed to Ray by `flush`: every value that goes to Ray costs
    about 20 us, which at thousands of requests a second is time that the model could have.
    Whatever Ray raises ends here, in the log once: a model serves without its figures.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._sums: dict[tuple[str, frozenset[tuple[str, str]]], Sum] = {}
        self._instruments: dict[str, Any] = {
            name: _instrument(name, metric) for name, metric in METRICS.items()
        }
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

    def flush(self) -> None:
        """Hand the sums to Ray; called every second. What Ray does not take waits for the next."""
        for total in self._sums.values():
            gained = total.gained
            if not gained and total.is_known:
                continue
            if self._tell(self._instruments[total.name].gain, gained, total.tags):
                total.gained -= gained
                total.is_known = True

    def gauge(self, name: str, value: float, **tags: str) -> None:
        """Set a gauge, again and again: Ray drops one that it has not heard of for 20 s."""
        self._tell(self._instruments[name].set, value, {"model": self._model, **tags})

    def observe(self, name: str, value: float, **tags: str) -> None:
        self._tell(self._instruments[name].observe, value, {"model": self._model, **tags})

    def _tell(self, take: Callable[..., None], value: float, tags: dict[str, str]) -> bool:
        try:
            take(value, tags=tags)
        except Exception as err:
            if not self._has_complained:
                log.warning("a metric cannot be exported: %s; said once", err, exc_info=err)
            self._has_complained = True
            return False
        return True


class _Counter(ray_metrics.Counter):  # type: ignore[misc]  # Any to mypy
    def gain(self, amount: float, tags: dict[str, str]) -> None:
        """Add to the counter; 0, which Ray's inc refuses, lets it be seen before it counts."""
        if amount:
            self.inc(amount, tags=tags)
        else:
            self._record(0, tags=tags)


def _instrument(name: str, metric: Metric) -> Any:
    if metric.kind == "histogram":
        return ray_metrics.Histogram(
            name,
            description=metric.help,
            boundaries=list(metric.buckets),
            tag_keys=metric.tags,
        )
    kind = _Counter if metric.kind == "counter" else ray_metrics.Gauge
    return kind(name, description=metric.help, tag_keys=metric.tags)
