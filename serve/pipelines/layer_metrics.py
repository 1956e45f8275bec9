"""What a pipeline tells of itself: time by layer, and where rows were answered.

The kinds write, the replica reads: after each batch for Server-Timing, every second for metrics.
One batch runs at a time, so nothing here is locked.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from serve.telemetry.trace_context import below
from serve.types import Layer


class Observer:
    """Figures of one pipeline."""

    def __init__(self) -> None:
        self.latest: list[Layer] = []  # of the batch that ran last
        self.seconds: Counter[str] = Counter()  # by layer, since the start
        self.rows: Counter[tuple[str, str]] = Counter()  # by layer and outcome, since the start
        self._told: Counter[tuple[str, str]] = Counter()

    def begin(self) -> None:
        """Forget the layers of the batch before."""
        self.latest = []

    @contextmanager
    def layer(self, label: str) -> Iterator[None]:
        """Time a layer."""
        started = time.perf_counter()
        with below() as span_id:
            try:
                yield
            finally:
                seconds = time.perf_counter() - started
                self.latest.append(Layer(label, seconds, started, span_id))
                self.seconds[label] += seconds  # type: ignore[assignment]

    def count(self, label: str, outcome: str, rows: int) -> None:
        """Count rows of a layer: answered, passed, abstained, degraded."""
        if rows:
            self.rows[label, outcome] += rows

    def take_rows(self) -> Counter[tuple[str, str]]:
        """Return the rows that were counted since the last time this was asked."""
        now = Counter(self.rows)
        fresh = now - self._told
        self._told = now
        return fresh

    def compute_saved(self, last: str) -> float | None:
        """Return the part of the computation that was saved against `last` alone for every row.

        By measured seconds a row; None until `last` has computed a row.
        """
        by_last = self.rows[last, "answered"] + self.rows[last, "passed"]
        total = sum(rows for (_, outcome), rows in self.rows.items() if outcome not in {"passed"})
        if not by_last or not self.seconds[last]:
            return None
        always = total * self.seconds[last] / by_last
        return 1 - sum(self.seconds.values()) / always
