"""When to run a batch: whenever the engine is free, with whatever waits.

One batcher a loaded version, called by model.Model on the replica's event loop. There is no
timer by default: rows that arrive while the engine works form the next batch, so batches
grow with load by themselves and a lonely request waits for nobody. The engine runs in one
thread beside the event loop, and a request that is alone in the replica runs on the event
loop itself, which saves two thread switches (figures: docs/performance.md).

The engine's thread is in one of three states, told by the batches that were handed to it and are
not finished, `_running`:

    0  idle               the next request schedules a batch for the end of this turn of the loop
    1  running            requests queue; a full batch of like rows may be handed over already, so
                          that the thread goes from one to the next without the event loop
    2  running, one ahead requests queue, until the first of the two is finished

After a batch the next one is handed over before its responses go out, so that both take their time
side by side, unless both are small: then a larger batch is worth more (`_is_due_at_once`).

Whatever is raised around the engine, by what observes it or traces it, ends here: its requests get
an error, the thread counts as free again and the next batch runs (`faults`).

Where several batchers share a process' cores, each waits for its turn (turns) before it forms a
batch, and none runs ahead. A short call for one request then runs on the event loop.

A batch is formed in one place, `_run_next`, of the request whose turn it is and those that may
share a call with it; queue says whose turn it is. A request is counted as queued, however large it
is, until batches have taken all of it or nobody waits for it any more.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from serve.batching.admission import Admission
from serve.batching.estimates import Estimates
from serve.batching.execution import (
    BatchRun,
    Compute,
    Entry,
    Layers,
    Watcher,
    run,
    share_out,
    show,
)
from serve.batching.merging import rows_of, shape_key
from serve.batching.queue import Queue
from serve.batching.turns import Turn, Turns
from serve.config.sections import Batching
from serve.edge.alarms import Alarms
from serve.errors import (
    DeadlineExceeded,
    InferenceFailed,
    ModelNotReady,
    RowsMixed,
    ServeError,
)
from serve.telemetry.faults import Faults
from serve.types import NO_TENANT, Priority, Tensors, Timing

log = logging.getLogger("ray.serve")

# Longest expected engine call that may block the event loop for a request that is alone.
INLINE_LIMIT_S = 0.005
# Requests are few below the largest batch's rows divided by this.
_FEW = 4


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """The limits of one batcher, and what its engine is like.

    `layers` returns the layers of the engine's latest call. `pads` False is for an engine that
    takes any number of rows and pads by itself.
    """

    batching: Batching
    max_queued_requests: int
    max_queue_wait_s: float | None = None
    layers: Layers = tuple
    may_block_loop: bool = True
    pads: bool = True

    @property
    def sizes(self) -> Sequence[int]:
        """The batch sizes that the engine is given, ascending."""
        return self.batching.sizes if self.pads else range(1, self.batching.max_batch_size + 1)


class Batcher:
    """Runs `compute(signature, inputs)` on batches.

    `observe` is told about each run, and the timing of its oldest request; `watcher` sees rows.
    `turns` are those of all who share the process' cores, None where nobody else computes.
    """

    def __init__(
        self,
        compute: Compute,
        policy: BatchPolicy,
        observe: Callable[[BatchRun, Timing], None],
        watcher: Watcher | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._compute = compute
        self._policy = policy
        self._observe = observe
        self._watcher = watcher
        self._sizes = policy.sizes
        self._queue = Queue()
        self.admission = Admission(
            self._queue, self._sizes[-1], policy.max_queued_requests, policy.max_queue_wait_s
        )
        self._turn = None if turns is None else Turn(turns, self._run_next, self._has_interactive)
        self._thread = (
            turns.threads if turns else ThreadPoolExecutor(1, thread_name_prefix="engine")
        )
        self._thread.submit(lambda: None)  # a machine without threads fails the load, no request
        self._running = 0
        self._busy_since = 0.0  # when the engine was last known to begin or to end a batch
        self._hold = _Held(self._release_if_idle)
        self._is_closed = False
        self.faults = Faults("batch", "beside the engine")
        self._when_idle: Callable[[], None] | None = None
        self._next: asyncio.TimerHandle | asyncio.Handle | None = None
        self._waits = False  # `_next` is for when the batch has waited for others long enough
        self._alarms: Alarms[Entry] = Alarms(_expire)
        self._free_since = 0.0
        self._loop_since: tuple[float, int] | None = None  # its CPU seconds, and refusals so far
        self._estimates = Estimates(self._sizes)
        # Signatures whose rows were seen to see each other, and how.
        self.mixed: dict[str, str] = {}

    @property
    def queued(self) -> int:
        """Requests that wait for the engine."""
        return len(self._queue)

    @property
    def busy_s(self) -> float:
        """Seconds since the engine began, or last ended, a batch; 0 while it is idle."""
        return time.perf_counter() - self._busy_since if self._running else 0.0

    def held(self) -> "_Held":
        """Return a context that keeps the engine, though `close` is called, for a request in it."""
        return self._hold

    async def infer(
        self,
        signature: str,
        inputs: Tensors,
        *,
        batched: bool,
        timeout_s: float,
        tenant: str = NO_TENANT,
        priority: Priority = "interactive",
        is_alone: Callable[[], bool] = lambda: False,
        charge: Callable[[float], None] | None = None,
    ) -> tuple[Tensors, Timing]:
        """Return the outputs for checked inputs; more rows than a batch holds are split.

        `is_alone` tells whether the replica has no other request, so that blocking the event
        loop for a short engine call delays nobody; `charge` is told each engine call's seconds, as
        far as they are the request's, whatever comes of it. Raises QueueFull, DeadlineExceeded,
        InferenceFailed, ModelNotReady once the engine has been let go.
        """
        with self.held():
            if is_alone():
                await asyncio.sleep(0)  # one turn of the loop shows who else has arrived
            if self._is_closed:
                raise ModelNotReady("this version has just been unloaded; ask again")
            self.admission.enter(priority)
            arrived = time.perf_counter()
            deadline = arrived + timeout_s
            batched = batched and signature not in self.mixed
            submit = partial(
                self._submit,
                signature,
                inputs,
                tenant=tenant,
                priority=priority,
                arrived=arrived,
                deadline=deadline,
                charge=charge,
            )
            entry = submit(batched=batched)
            if is_alone() and self._may_run_inline(entry):
                self._run_inline(timeout_s)
            try:
                outputs = await self._outputs(entry)
            except RowsMixed as err:
                self._note_mixed(signature, err)
                entry = submit(batched=False)
                outputs = await self._outputs(entry)
        return outputs, entry.timing

    def _note_mixed(self, signature: str, err: RowsMixed) -> None:
        """Compute every request for a signature by itself from now on: its rows see each other."""
        if signature not in self.mixed:
            self.mixed[signature] = str(err)
            log.warning(
                "signature '%s' was batched, but %s; its requests are computed one by one from now "
                "on: set batching.rows to together",
                signature,
                err,
            )

    def close(self, then: Callable[[], None] = lambda: None) -> None:
        """End the engine's thread once the requests that are here are done, and call `then`."""
        self._when_idle = then
        self._release_if_idle()

    def _release_if_idle(self) -> None:
        if self._when_idle is None or self._running or self._queue or self._hold.requests:
            return
        then, self._when_idle = self._when_idle, None
        self._is_closed = True
        if self._turn is None:
            self._thread.shutdown(wait=False)
        else:
            self._turn.leave()
        try:
            then()
        except Exception as err:
            self.faults.note(err)

    def _submit(
        self,
        signature: str,
        inputs: Tensors,
        *,
        batched: bool,
        tenant: str,
        priority: Priority,
        arrived: float,
        deadline: float,
        charge: Callable[[float], None] | None,
    ) -> Entry:
        rows = rows_of(inputs) if batched else 1
        entry = Entry(
            signature=signature,
            inputs=inputs,
            rows=rows,
            key=shape_key(signature, inputs) if batched and rows else None,
            future=asyncio.get_running_loop().create_future(),
            arrived=arrived,
            tenant=tenant,
            priority=priority,
            deadline=deadline,
            charge=charge,
        )
        self._queue.add(entry)
        if not self._running or self._may_run_ahead():
            self._schedule_now()
        return entry

    def _may_run_ahead(self) -> bool:
        """Tell whether a full batch should wait behind the running one, in the engine's thread.

        Nothing can join it any more, and the engine need not wait for a turn of the event loop. One
        of requests that give way stays open for those that do not.
        """
        if self._turn is not None:  # others may have theirs before
            return False
        return self._running == 1 and self._queue.interactive.rows >= self._sizes[-1]

    def _may_run_inline(self, entry: Entry) -> bool:
        """Tell whether an entry is all that waits, one call, and expected to be a short one."""
        if self._running or len(self._queue) > 1 or not self._policy.may_block_loop:
            return False
        if entry.rows > self._sizes[-1] or (self._turn is not None and not self._turn.is_alone):
            return False
        return self._is_short(entry)

    def _is_short(self, entry: Entry) -> bool:
        """Tell whether a call for an entry alone may block the event loop."""
        seconds = self._estimates.seconds(entry)
        return seconds is not None and seconds < INLINE_LIMIT_S

    def _has_interactive(self) -> bool:
        return self._queue.interactive.requests > 0

    def _schedule_now(self) -> None:
        """Have the next batch run at the end of this turn of the loop, in which others may join."""
        if self._next is None or self._waits:
            self._unschedule()
            self._next = asyncio.get_running_loop().call_soon(self._run_next)

    def _schedule_in(self, delay_s: float) -> None:
        self._unschedule()
        self._next = asyncio.get_running_loop().call_later(delay_s, self._run_next)
        self._waits = True

    def _unschedule(self) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next, self._waits = None, False

    def _run_next(self) -> None:
        """Hand the next batch to the engine's thread, if it is due and the thread may have it."""
        self._next, self._waits = None, False
        try:
            self._hand_over()
        except Exception as err:  # those who wait go on waiting, for the next one to try
            self.faults.note(err)

    def _hand_over(self) -> None:
        self._queue.drop_done()
        if not self._queue:
            self._release_if_idle()
            return
        if self._running and not self._may_run_ahead():
            return
        largest = self._sizes[-1]
        head_rows = self._queue.rows_like_head(largest)
        if self._running and head_rows < largest:
            return
        wait_s = self._remaining_wait_s(head_rows)
        if wait_s > 0:
            self._schedule_in(wait_s)
            return
        if self._turn is not None and not self._turn.has_come():
            return
        entries = self._queue.take(largest)
        self._begin()
        if self._is_better_done_here(entries):
            self._finish(entries, *self._run(entries))
            return
        try:
            self._thread.submit(self._run_in_thread, asyncio.get_running_loop(), entries)
        except RuntimeError as err:  # the thread is gone
            self._end()
            self._fail(entries, err)

    def _is_better_done_here(self, entries: Sequence[Entry]) -> bool:
        """Tell whether to compute on the event loop, among others that share the cores.

        Where many models are asked in turn a batch is mostly one request, and two thread switches
        for each cost more than the call.
        """
        if self._turn is None or not self._turn.has_core or not self._policy.may_block_loop:
            return False
        return len(entries) == 1 and self._is_short(entries[0])

    def _begin(self) -> None:
        if not self._running:
            self._busy_since = time.perf_counter()
        self._running += 1
        if self._turn is not None:
            self._turn.begin()

    def _end(self) -> None:
        self._running -= 1
        self._busy_since = time.perf_counter()
        if self._turn is not None:
            self._turn.end()

    def _remaining_wait_s(self, head_rows: int) -> float:
        wait_s = self._policy.batching.batch_wait_timeout_s
        if not wait_s or head_rows >= self._sizes[-1]:
            return 0.0
        return self._queue.head.arrived + wait_s - time.perf_counter()

    def _run_inline(self, timeout_s: float) -> None:
        self._unschedule()
        if self._turn is not None:
            self._turn.has_come()  # as nobody else waits
        entries = self._queue.take(self._sizes[-1])
        self._begin()
        self._loop_since = None  # the engine's time is the loop's
        results, batch_run = self._run(entries)
        if batch_run.engine_s > timeout_s:
            _expire(entries[0])
        self._finish(entries, results, batch_run)

    def _run_in_thread(self, loop: asyncio.AbstractEventLoop, entries: list[Entry]) -> None:
        live = [entry for entry in entries if not entry.future.done()]
        results, batch_run = self._run(live)
        loop.call_soon_threadsafe(self._finish, live, results, batch_run)

    def _run(self, entries: list[Entry]) -> tuple[list[Tensors | ServeError], BatchRun]:
        """Return each entry's outputs or error; raises nothing."""
        started = time.perf_counter()
        try:
            return run(self._compute, entries, self._sizes, self._policy.layers)
        except BaseException as err:
            self.faults.count()  # those who asked log it
            rows = sum(entry.rows for entry in entries)
            seconds = time.perf_counter() - started
            return [_failed(err) for _ in entries], BatchRun(rows, rows, started, seconds)

    def _finish(
        self, entries: list[Entry], results: list[Tensors | ServeError], batch_run: BatchRun
    ) -> None:
        self._end()
        try:
            _stamp(entries, batch_run, self._free_since)
            self._free_since = time.perf_counter()
            if self._is_due_at_once(len(entries)):
                self._run_next()  # first, so that the engine works while responses are encoded
            for entry, result in zip(entries, results, strict=True):
                entry.finish(result)
            if self._queue and not self._running:
                self._schedule_now()
            if entries:
                self._account(entries, results, batch_run)
        except Exception as err:
            self._fail(entries, err)
        finally:
            self._release_if_idle()

    def _is_due_at_once(self, answered: int) -> bool:
        """Tell whether the next batch should not wait for the `answered` to have their responses.

        A call for few rows costs nearly what one for some more does. So where both are few, the
        responses go first, and whoever arrives until the end of this turn of the loop joins in.
        """
        if not self._queue:
            return False
        largest = self._sizes[-1]
        return max(answered, self._queue.rows_like_head(largest)) >= largest / _FEW

    def _fail(self, entries: list[Entry], err: Exception) -> None:
        """Give an error to those of a batch that have nothing yet, and see to those who wait."""
        asked = [entry for entry in entries if not entry.future.done()]
        if asked:
            self.faults.count()  # those who asked log it
        else:
            self.faults.note(err)
        for entry in asked:
            entry.finish(_failed(err))
        if self._queue and not self._running and self._next is None:
            self._schedule_now()

    def _account(
        self, entries: list[Entry], results: list[Tensors | ServeError], batch_run: BatchRun
    ) -> None:
        share_out(entries, batch_run)
        self._estimates.learn(entries, batch_run.engine_s)
        if entries:
            self._learn_pace(entries, batch_run)
        self._observe(batch_run, entries[0].timing)
        if self._watcher is not None and self._watcher.is_due():
            show(self._watcher, entries, results, self.faults)

    def _learn_pace(self, entries: list[Entry], batch_run: BatchRun) -> None:
        """Tell what a batch took of the engine, and of the event loop if it did nothing else.

        From one batch to the next without a rest it did nothing else. Where others share the
        process it did theirs, too.
        """
        requests = sum(1.0 if e.whole is None else e.rows / e.whole.rows for e in entries)
        pace = self.admission.pace
        pace.learn(batch_run.rows, batch_run.padded_rows, requests, batch_run.engine_s)
        before, self._loop_since = self._loop_since, None
        if self._turn is not None or not (self._queue or self._running):
            return
        now = time.thread_time(), self.admission.refusals
        self._loop_since = now
        if before is not None and before[1] == now[1]:
            pace.learn_loop(requests, now[0] - before[0])

    async def _outputs(self, entry: Entry) -> Tensors:
        if entry.future.done():
            return entry.future.result()
        self._alarms.set(entry, entry.deadline)
        try:
            outputs = await entry.future
        except BaseException:
            entry.abandon()
            if self._queue.discard(entry):
                self._release_if_idle()
            raise
        finally:
            self._alarms.drop(entry)
        entry.pieces.clear()  # each of which holds the request itself
        return outputs


class _Held:
    """Counts the requests that have chosen a batcher, and may not be in its queue yet."""

    def __init__(self, release: Callable[[], None]) -> None:
        self.requests = 0
        self._release = release

    def __enter__(self) -> None:
        self.requests += 1

    def __exit__(self, *_: object) -> None:
        self.requests -= 1
        self._release()


def _failed(err: BaseException) -> InferenceFailed:
    failed = InferenceFailed(
        f"the replica failed beside the model ({type(err).__name__}); its log has the details"
    )
    failed.__cause__ = err
    return failed


def _stamp(entries: list[Entry], batch_run: BatchRun, free_since: float) -> None:
    """Write down where the time went: until `free_since` the engine was busy with others."""
    for entry in entries:
        free_at = min(max(entry.arrived, free_since), batch_run.started)
        timing = entry.timing
        timing.arrived = entry.arrived
        timing.queue_s = free_at - entry.arrived
        timing.batch_wait_s = batch_run.started - free_at
        timing.engine_s = batch_run.engine_s
        timing.rows = entry.rows
        timing.batch_rows = batch_run.rows
        timing.layers = batch_run.layers


def _expire(entry: Entry) -> None:
    timeout_s = entry.deadline - entry.arrived
    message = f"no answer within {timeout_s:.2g} s; allow more time or send less at once"
    entry.finish(DeadlineExceeded(message))
