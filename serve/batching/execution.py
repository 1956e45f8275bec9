"""Run one batch on the engine and give every request its own outputs or its own error.

Called by the batcher, in the engine's thread or on the event loop; touches no shared state.
"""

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from serve.batching.deadline import until
from serve.batching.merging import join, merge, padded_size, split
from serve.errors import (
    DeadlineExceeded,
    InferenceFailed,
    ModelNotReady,
    QueueFull,
    RowsMixed,
    ServeError,
)
from serve.telemetry.faults import Faults
from serve.telemetry.trace_context import CURRENT, Carrier, following, is_sampled
from serve.types import NO_TENANT, Layer, Priority, Tensors, Timing

Compute = Callable[[str, Tensors], Tensors]
# Tells the layers of the engine's latest call.
Layers = Callable[[], tuple[Layer, ...]]
# Errors that no row of a batch causes: tried one by one, each would cost as much again. Those whose
# rows were mixed are computed anew by the batcher, unpadded.
_NO_ROWS = (DeadlineExceeded, QueueFull, ModelNotReady, RowsMixed)

# Pieces of a request whose timings are kept one by one: a trace gets some spans for each.
_PIECES_TOLD = 16


class Watcher(Protocol):
    """Looks at some of the rows that were computed, after their responses have gone out."""

    def is_due(self) -> bool:
        """Tell whether to be given the next batch; asked after each one, so it must be quick."""

    def look(self, signature: str, computed: Sequence[tuple[Tensors, Tensors]]) -> None:
        """Take the inputs and outputs of each request that did not fail, without padding."""


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One call of the engine: rows that were asked for, rows with padding, when, how long.

    `tenants` are the engine's seconds by tenant, shared out by rows.
    """

    rows: int
    padded_rows: int
    started: float
    engine_s: float
    layers: tuple[Layer, ...] = ()
    tenants: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """A request, or a piece of one, that waits for the engine; `future` gets a request's outputs.

    `key` is what entries of one batch have in common, None for one that must run by itself; until
    `deadline` (time.perf_counter) somebody waits. A piece has the future of the request that it was
    cut from, `whole`. `charge` is told its part of each engine call, in seconds, where somebody
    wants to know.
    """

    signature: str
    inputs: Tensors
    rows: int
    key: Hashable | None
    future: asyncio.Future[Tensors]
    arrived: float
    tenant: str = NO_TENANT
    priority: Priority = "interactive"
    timing: Timing = field(default_factory=Timing)
    trace: Carrier | None = field(default_factory=CURRENT.get)
    deadline: float = math.inf
    whole: "Entry | None" = None
    pieces: "list[Entry]" = field(default_factory=list)
    outputs: Tensors | None = None
    cut_rows: int = 0
    missing: int = 0
    charge: Callable[[float], None] | None = None

    @property
    def left(self) -> int:
        """The rows that no piece was cut of."""
        return self.rows - self.cut_rows

    def cut(self, rows: int) -> "Entry":
        """Return the next piece: so many of the rows that are left."""
        start = self.cut_rows
        self.cut_rows += rows
        piece = Entry(
            signature=self.signature,
            inputs={name: array[start : start + rows] for name, array in self.inputs.items()},
            rows=rows,
            key=self.key,
            future=self.future,
            arrived=self.arrived,
            tenant=self.tenant,
            priority=self.priority,
            trace=self.trace,
            deadline=self.deadline,
            whole=self,
            charge=self.charge,
        )
        self.pieces.append(piece)
        self.missing += 1
        return piece

    def finish(self, result: Tensors | ServeError) -> None:
        """Set the outputs or the error, unless it is too late for either.

        A request has its outputs once all its pieces have theirs, and an error once one has one.
        """
        if self.future.done():
            return
        if isinstance(result, ServeError):
            self.future.set_exception(result)
        elif self.whole is None:
            self.future.set_result(result)
        else:
            self.outputs = result
            self.whole.missing -= 1
            self.whole.join_pieces()

    def join_pieces(self) -> None:
        """Set the outputs and the timing of a request if no piece is missing."""
        if self.left or self.missing:
            return
        self.timing = total([piece.timing for piece in self.pieces])
        try:
            self.finish(join([piece.outputs for piece in self.pieces if piece.outputs is not None]))
        except ServeError as err:
            self.finish(err)

    def abandon(self) -> None:
        """Cancel the future if it waits; look at its error, which nobody else may do."""
        self.pieces.clear()  # each of which holds the request itself
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()


def run(
    compute: Compute, entries: Sequence[Entry], sizes: Sequence[int], layers: Layers = tuple
) -> tuple[list[Tensors | ServeError], BatchRun]:
    """Compute the entries as one batch padded to one of `sizes`; results are in their order."""
    started = time.perf_counter()
    rows = sum(entry.rows for entry in entries)
    if not entries:
        return [], BatchRun(0, 0, started, 0.0)
    size = rows if entries[0].key is None else padded_size(rows, sizes)
    with following(_trace_of(entries)), until(max(entry.deadline for entry in entries)):
        results = _attempt(compute, entries, size)
        failure = results[0]
        if (
            len(entries) > 1
            and isinstance(failure, ServeError)
            and not isinstance(failure, _NO_ROWS)
        ):
            # One of them may be the cause: alone, it fails alone.
            results = [
                _attempt(compute, [entry], padded_size(entry.rows, sizes))[0] for entry in entries
            ]
    seconds = time.perf_counter() - started
    return results, BatchRun(rows, size, started, seconds, layers(), _shares(entries, seconds))


def _shares(entries: Sequence[Entry], seconds: float) -> dict[str, float]:
    if len(entries) == 1:
        return {entries[0].tenant: seconds}
    rows: dict[str, int] = {}
    for entry in entries:  # one without rows has been a call all the same
        rows[entry.tenant] = rows.get(entry.tenant, 0) + max(1, entry.rows)
    a_row = seconds / sum(rows.values())
    return {tenant: a_row * count for tenant, count in rows.items()}


def share_out(entries: Sequence[Entry], batch_run: BatchRun) -> None:
    """Tell those that want to know what they cost: seconds, shared out like those of tenants."""
    if any(entry.charge is not None for entry in entries):
        rows = sum(max(1, entry.rows) for entry in entries)
        for entry in entries:
            if entry.charge is not None:
                entry.charge(batch_run.engine_s * max(1, entry.rows) / rows)


def _trace_of(entries: Sequence[Entry]) -> Carrier | None:
    """Return the trace that a batch's calls of other replicas belong to: one that is recorded."""
    traces = [entry.trace for entry in entries if entry.trace is not None]
    return next((trace for trace in traces if is_sampled(trace)), traces[0] if traces else None)


def _attempt(compute: Compute, entries: Sequence[Entry], size: int) -> list[Tensors | ServeError]:
    signature = entries[0].signature
    try:
        if entries[0].key is None:
            return [compute(signature, entries[0].inputs)]
        outputs = compute(signature, merge([entry.inputs for entry in entries], size))
        return list(split(outputs, [entry.rows for entry in entries], size))
    except ServeError as err:
        return [err] * len(entries)
    except BaseException as err:  # whatever an engine raises, exit() too, its callers must be told
        failed = InferenceFailed(f"the model raised {type(err).__name__}")
        failed.__cause__ = err
        return [failed] * len(entries)


def show(
    watcher: Watcher,
    entries: Sequence[Entry],
    results: Sequence[Tensors | ServeError],
    faults: Faults,
) -> None:
    """Have a watcher look at the entries that did not fail, in the event loop's next turn."""
    computed = [
        (entry.inputs, result)
        for entry, result in zip(entries, results, strict=True)
        if not isinstance(result, ServeError)
    ]
    # Not now: the responses go out first.
    asyncio.get_running_loop().call_soon(_look, watcher, entries[0].signature, computed, faults)


def _look(
    watcher: Watcher,
    signature: str,
    computed: Sequence[tuple[Tensors, Tensors]],
    faults: Faults,
) -> None:
    try:
        watcher.look(signature, computed)
    except Exception as err:
        faults.note(err)


def total(timings: Sequence[Timing]) -> Timing:
    """Return the timing of a request from those of its pieces, of which it names a few."""
    if len(timings) == 1:
        return timings[0]
    arrived = min(timing.arrived for timing in timings)
    computed = max(t.arrived + t.queue_s + t.batch_wait_s + t.engine_s for t in timings)
    batch_wait_s = timings[0].batch_wait_s
    engine_s = sum(timing.engine_s for timing in timings)
    told = timings if len(timings) <= _PIECES_TOLD else [*timings[: _PIECES_TOLD - 1], timings[-1]]
    return Timing(
        # Whatever ran between the pieces was others' turn.
        queue_s=max(0.0, computed - arrived - batch_wait_s - engine_s),
        batch_wait_s=batch_wait_s,
        engine_s=engine_s,
        arrived=arrived,
        rows=sum(timing.rows for timing in timings),
        batch_rows=max(timing.batch_rows for timing in timings),
        layers=_by_label(layer for timing in timings for layer in timing.layers),
        pieces=tuple(told),
    )


def _by_label(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return one layer for each label, with the seconds of all its calls."""
    merged: dict[str, Layer] = {}
    for layer in layers:
        first = merged.get(layer.label)
        seconds = layer.seconds + (first.seconds if first else 0.0)
        merged[layer.label] = replace(first or layer, seconds=seconds)
    return tuple(merged.values())
