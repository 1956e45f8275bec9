"""The drift monitor of a version: its recent rows, counted and compared with its baseline.

Built by replica.model for a version that has a baseline. The batcher calls `look` on the event loop
once the futures of a batch have their outputs. A look counts some rows of the batch; then the
monitor rests for so long that looking takes half a per cent of the time at most, whatever the
tensors; the models of a pool have that together. All methods run on that loop.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.drift.baseline import Baseline, TensorBaseline
from serve.drift.bins import Counts, Edges, count
from serve.drift.score import LEAST_ROWS, stability_index
from serve.drift.statistics import Kind, statistics
from serve.types import Array, Tensors

# The part of the clock's time that looking may take. It is a larger part of the replica's CPU time
# where others take the cores: three times as large where the replica gets a third of one.
SHARE = 0.005
BUCKET_S = 300.0  # a score is of this bucket and the one before: five to ten minutes

_MOST_ROWS = 64  # of one look
_MOST_ELEMENTS = 2**17  # of one look, about 0.2 ms, so that no request waits long behind one

Answered = Sequence[tuple[Tensors, Tensors]]


@dataclass(frozen=True, slots=True)
class _Watched:
    """A tensor that is watched: its label in metrics, and by statistic its bins and baseline."""

    label: str
    name: str
    kind: Kind
    edges: dict[str, Edges]
    counts: dict[str, Counts]


@dataclass(slots=True)
class _Bucket:
    """What was seen since a time: counts by the tensor's label and statistic, and errors."""

    since: float
    rows: int = 0
    counts: dict[tuple[str, str], Counts] = field(default_factory=dict)
    errors: int = 0
    error_sum: float = 0.0


class Monitor:
    """Scores of a version's recent rows against its baseline, kept as counts in two buckets.

    `sharers` tells how many monitors have to do with `SHARE` together.
    """

    def __init__(
        self,
        baseline: Baseline,
        clock: Callable[[], float] = time.perf_counter,
        sharers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._signature = baseline.signature
        self._error = baseline.reconstruction_error
        self._inputs = [_watched("input", *item) for item in baseline.inputs.items()]
        self._outputs = [_watched("output", *item) for item in baseline.outputs.items()]
        self._clock = clock
        self._sharers = sharers
        self._next_look = clock()
        self._before = _Bucket(self._next_look)
        self._now = _Bucket(self._next_look)
        self._unreported_rows = 0

    def is_due(self) -> bool:
        """Tell whether the rest after the last look is over."""
        return self._clock() >= self._next_look

    def look(self, signature: str, answered: Answered) -> None:
        """Count some rows of answered requests: their inputs and outputs, without padding."""
        if signature != self._signature or not answered:
            return
        started = self._clock()
        if started - self._now.since >= BUCKET_S and self._now.rows >= LEAST_ROWS:
            self._before, self._now = self._now, _Bucket(started)
        most = _rows_of_a_look(answered)
        inputs = _first_rows([inputs for inputs, _ in answered], most)
        outputs = _first_rows([outputs for _, outputs in answered], most)
        self._count(self._inputs, inputs)
        self._count(self._outputs, outputs)
        if self._error is not None:
            self._add_error(outputs[self._error])
        rows = len(next(iter(inputs.values())))
        self._now.rows += rows
        self._unreported_rows += rows
        ended = self._clock()
        self._next_look = ended + (ended - started) * (self._sharers() / SHARE - 1)

    def scores(self) -> dict[str, float]:
        """Return each tensor's stability index by its label; empty until enough rows were seen.

        It is the largest index of the tensor's statistics: their mean would hide the one feature
        of sixteen that moved.
        """
        if self._before.rows + self._now.rows < LEAST_ROWS:
            return {}
        return {
            watched.label: max(self._indexes(watched), default=0.0)
            for watched in (*self._inputs, *self._outputs)
        }

    def reconstruction_error(self) -> float | None:
        """Return the mean reconstruction error of recent rows, None if none was seen."""
        errors = self._before.errors + self._now.errors
        return (self._before.error_sum + self._now.error_sum) / errors if errors else None

    def take_rows(self) -> int:
        """Return how many rows were looked at since the last call."""
        rows, self._unreported_rows = self._unreported_rows, 0
        return rows

    def _count(self, all_watched: list[_Watched], tensors: Tensors) -> None:
        counts = self._now.counts
        for watched in all_watched:
            for name, values in statistics(watched.kind, tensors[watched.name]).items():
                if name in watched.edges:
                    key = watched.label, name
                    counts[key] = counts.get(key, 0) + count(values, watched.edges[name])

    def _add_error(self, array: Array) -> None:
        errors = array[np.isfinite(array)]
        self._now.errors += len(errors)
        self._now.error_sum += float(errors.sum(dtype=float))

    def _indexes(self, watched: _Watched) -> Iterator[float]:
        for name, expected in watched.counts.items():
            key = watched.label, name
            seen = [
                bucket.counts[key] for bucket in (self._before, self._now) if key in bucket.counts
            ]
            yield stability_index(sum(seen, np.zeros_like(expected)), expected)


def _watched(what: str, name: str, tensor: TensorBaseline) -> _Watched:
    return _Watched(
        f"{what}.{name}",
        name,
        tensor.kind,
        {key: np.array(histogram.edges, float) for key, histogram in tensor.statistics.items()},
        {key: np.array(histogram.counts) for key, histogram in tensor.statistics.items()},
    )


def _rows_of_a_look(answered: Answered) -> int:
    first_inputs, first_outputs = answered[0]
    arrays = [*first_inputs.values(), *first_outputs.values()]
    elements = sum(array.size // max(len(array), 1) for array in arrays)
    return max(1, min(_MOST_ROWS, _MOST_ELEMENTS // max(elements, 1)))


def _first_rows(parts: Sequence[Tensors], most: int) -> Tensors:
    return {name: _joined([part[name] for part in parts], most) for name in parts[0]}


def _joined(arrays: Sequence[Array], most: int) -> Array:
    taken = []
    for array in arrays:
        taken.append(array[:most])
        most -= len(taken[-1])
        if most <= 0:
            break
    return taken[0] if len(taken) == 1 else np.concatenate(taken)
