"""What the layers of a pipeline did: seconds by layer, and the rows that ended there or went on.

Kinds write it while they compute. The replica reads it: after each batch for Server-Timing, every
second for metrics, on another thread: what both touch is locked.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from serve.telemetry.trace_context import below
from serve.types import Layer


class LayerRecorder:
    """Figures of one pipeline, by its members' labels; `last` is the label of the last member.

    An outcome of a row is answered, passed, abstained or degraded.
    """

    def __init__(self, last: str) -> None:
        self.seconds: Counter[str] = Counter()  # by label, since the start
        self.rows: Counter[tuple[str, str]] = Counter()  # by label and outcome, since the start
        self._last = last
        self._latest: list[Layer] = []  # of the batch that ran last
        self._taken: Counter[tuple[str, str]] = Counter()
        self._lock = Lock()

    def begin(self) -> None:
        """Forget the layers of the batch before."""
        self._latest = []

    @contextmanager
    def time(self, label: str) -> Iterator[None]:
        """Time one call of a layer, as a step of the request's trace."""
        started = time.perf_counter()
        with below() as span_id:
            try:
                yield
            finally:
                seconds = time.perf_counter() - started
                self._latest.append(Layer(label, seconds, started, span_id))
                with self._lock:
                    self.seconds[label] += seconds  # type: ignore[assignment]

    def count(self, label: str, outcome: str, rows: int) -> None:
        """Count rows by what became of them in a layer."""
        if rows:
            with self._lock:
                self.rows[label, outcome] += rows

    def latest(self) -> tuple[Layer, ...]:
        """Return the layers of the latest batch, in the order they ran."""
        return tuple(self._latest)

    def take_rows(self) -> Counter[tuple[str, str]]:
        """Return rows by label and outcome, of all batches since this was last asked."""
        with self._lock:
            now = Counter(self.rows)
        fresh = now - self._taken
        self._taken = now
        return fresh

    def compute_saved(self) -> float | None:
        """Return the part of the computation saved against the last member for every row.

        By measured seconds a row; None until the last member has computed a row.
        """
        with self._lock:
            rows, seconds = Counter(self.rows), Counter(self.seconds)
        last = self._last
        by_last = rows[last, "answered"] + rows[last, "passed"]
        total = sum(count for (_, outcome), count in rows.items() if outcome != "passed")
        if not by_last or not seconds[last]:
            return None
        return 1 - sum(seconds.values()) / (total * seconds[last] / by_last)
