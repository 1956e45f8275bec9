"""When to run a batch: whenever the engine is free, with whatever waits.

One batcher a loaded version, called by model.Model on the replica's event loop. There is no
timer by default: rows that arrive while the engine works form the next batch, so batches
grow with load by themselves and a lonely request waits for nobody. The engine runs in one
thread beside the event loop, and a request that is alone in the replica runs on the event
loop itself, which saves two thread switches (figures: docs/performance.md).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from serve.batching.batch import chunks, join, padded_size, rows_of, shape_key
from serve.batching.execution import BatchRun, Compute, Entry, Watcher, run, show, total
from serve.batching.policy import BatchPolicy
from serve.errors import DeadlineExceeded, QueueFull, ServeError
from serve.types import NO_TENANT, Tensors, Timing

# Longest expected engine call that may block the event loop for a request that is alone.
INLINE_LIMIT_S = 0.005
_FORGET = 0.95  # a run, of how long the slowest one of late took


class Batcher:
    """Runs `compute(signature, inputs)` on batches.

    `observe` is told about each run, and the timing of its oldest request; `watcher` sees rows.
    """

    def __init__(
        self,
        compute: Compute,
        policy: BatchPolicy,
        observe: Callable[[BatchRun, Timing], None],
        watcher: Watcher | None = None,
    ) -> None:
        self._compute = compute
        self._policy = policy
        self._observe = observe
        self._watcher = watcher
        self._sizes = policy.sizes
        self._queue: deque[Entry] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._queued_rows = 0
        self._running = 0
        self._closing = False
        self._next: asyncio.TimerHandle | asyncio.Handle | None = None
        self._free_since = 0.0
        self._seconds_by_size: dict[int, float] = {}

    @property
    def queued(self) -> int:
        """Requests that wait for the engine."""
        return len(self._queue)

    async def infer(
        self,
        signature: str,
        inputs: Tensors,
        *,
        batched: bool,
        timeout_s: float,
        tenant: str = NO_TENANT,
        is_alone: Callable[[], bool] = lambda: False,
    ) -> tuple[Tensors, Timing]:
        """Return the outputs for checked inputs; more rows than a batch holds are split.

        `is_alone` tells whether the replica has no other request, so that blocking the event
        loop for a short engine call delays nobody. Raises QueueFull, DeadlineExceeded,
        InferenceFailed.
        """
        if is_alone():
            await asyncio.sleep(0)  # one turn of the loop shows who else has arrived
        self._check_room()
        pieces = chunks(inputs, self._sizes[-1]) if batched else [inputs]
        entries = [self._submit(signature, piece, batched, tenant) for piece in pieces]
        if len(entries) == 1 and is_alone() and self._is_short(entries[0]):
            self._run_inline(timeout_s)
        answers = await self._answers(entries, timeout_s)
        return join(answers), total([entry.timing for entry in entries])

    def close(self) -> None:
        """Take no thread longer than the requests that are here need it."""
        self._closing = True
        self._release_if_idle()

    def _release_if_idle(self) -> None:
        if self._closing and not self._running and not self._queue:
            self._thread.shutdown(wait=False)

    def _check_room(self) -> None:
        if len(self._queue) >= self._policy.max_queued_requests:
            raise QueueFull(
                f"{len(self._queue)} requests wait already; try again later "
                "or raise limits.max_queued_requests"
            )

    def _submit(self, signature: str, inputs: Tensors, batched: bool, tenant: str) -> Entry:
        rows = rows_of(inputs) if batched else 1
        key = shape_key(signature, inputs) if batched and rows else None
        answer = asyncio.get_running_loop().create_future()
        entry = Entry(signature, inputs, rows, key, answer, time.perf_counter(), tenant)
        self._queue.append(entry)
        self._queued_rows += rows
        if not self._running or self._may_run_ahead():
            self._schedule()
        return entry

    def _may_run_ahead(self) -> bool:
        """Tell whether a full batch should wait behind the running one, in the engine's thread.

        Nothing can join it any more, and the engine need not wait for a turn of the event loop.
        """
        return self._running == 1 and self._queued_rows >= self._sizes[-1]

    def _is_short(self, entry: Entry) -> bool:
        seconds = self._seconds_by_size.get(padded_size(entry.rows, self._sizes))
        may_block = self._policy.may_block_loop and not self._running
        return may_block and seconds is not None and seconds < INLINE_LIMIT_S

    def _schedule(self, delay_s: float = 0.0) -> None:
        if self._next is not None:
            self._next.cancel()
        loop = asyncio.get_running_loop()
        # call_soon, not now: what has arrived in this turn of the loop shall join the batch.
        self._next = (
            loop.call_later(delay_s, self._run_next)
            if delay_s > 0
            else loop.call_soon(self._run_next)
        )

    def _run_next(self) -> None:
        self._next = None
        while self._queue and self._queue[0].answer.done():  # expired, or its caller has gone
            self._queued_rows -= self._queue.popleft().rows
        if not self._queue or (self._running and not self._may_run_ahead()):
            return
        head_rows = self._rows_like_head()
        if self._running and head_rows < self._sizes[-1]:
            return
        wait_s = self._remaining_wait_s(head_rows)
        if wait_s > 0:
            self._schedule(wait_s)
            return
        entries = self._take()
        self._running += 1
        self._thread.submit(self._run_in_thread, asyncio.get_running_loop(), entries)

    def _rows_like_head(self) -> int:
        """Return the rows that could share a batch with the oldest entry."""
        head = self._queue[0]
        if head.key is None:
            return self._sizes[-1]
        return sum(entry.rows for entry in self._queue if entry.key == head.key)

    def _remaining_wait_s(self, head_rows: int) -> float:
        wait_s = self._policy.batching.batch_wait_timeout_s
        if not wait_s or head_rows >= self._sizes[-1]:
            return 0.0
        return self._queue[0].arrived + wait_s - time.perf_counter()

    def _take(self) -> list[Entry]:
        """Remove the oldest entry from the queue with those that fit into its batch."""
        key = self._queue[0].key
        free_rows = self._sizes[-1]
        taken: list[Entry] = []
        left: deque[Entry] = deque()
        for entry in self._queue:
            if entry.answer.done():
                continue
            fits = key is not None and entry.key == key and entry.rows <= free_rows
            if fits or not taken:
                taken.append(entry)
                free_rows -= entry.rows
            else:
                left.append(entry)
        self._queue = left
        self._queued_rows = sum(entry.rows for entry in left)
        return taken

    def _run_inline(self, timeout_s: float) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        entries = self._take()
        self._running += 1
        answers, outcome = self._run(entries)
        if outcome.engine_s > timeout_s:
            _expire(entries, timeout_s)
        self._finish(entries, answers, outcome)

    def _run_in_thread(self, loop: asyncio.AbstractEventLoop, entries: list[Entry]) -> None:
        live = [entry for entry in entries if not entry.answer.done()]
        outcome = self._run(live)
        loop.call_soon_threadsafe(self._finish, live, *outcome)

    def _run(self, entries: list[Entry]) -> tuple[list[Tensors | ServeError], BatchRun]:
        return run(self._compute, entries, self._sizes, self._policy.layers)

    def _finish(
        self, entries: list[Entry], answers: list[Tensors | ServeError], run: BatchRun
    ) -> None:
        self._running -= 1
        _stamp(entries, run, self._free_since)
        self._free_since = time.perf_counter()
        if self._queue:
            self._run_next()  # first, so that the engine works while answers are encoded
        for entry, answer in zip(entries, answers, strict=True):
            if entry.answer.done():
                continue
            if isinstance(answer, ServeError):
                entry.answer.set_exception(answer)
            else:
                entry.answer.set_result(answer)
        if entries:
            # The slowest of late, so that one quick run does not make slow ones look short.
            before = self._seconds_by_size.get(run.padded_rows, 0.0)
            self._seconds_by_size[run.padded_rows] = max(run.engine_s, before * _FORGET)
            self._observe(run, entries[0].timing)
            if self._watcher is not None and self._watcher.is_due():
                show(self._watcher, entries, answers)
        self._release_if_idle()

    async def _answers(self, entries: list[Entry], timeout_s: float) -> list[Tensors]:
        if len(entries) == 1 and entries[0].answer.done():
            return [entries[0].answer.result()]
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(timeout_s, _expire, entries, timeout_s)
        try:
            return [await entry.answer for entry in entries]
        finally:
            alarm.cancel()
            for entry in entries:
                _abandon(entry.answer)


def _stamp(entries: list[Entry], run: BatchRun, free_since: float) -> None:
    """Write down where the time went: until `free_since` the engine was busy with others."""
    for entry in entries:
        free_at = min(max(entry.arrived, free_since), run.started)
        entry.timing.arrived = entry.arrived
        entry.timing.queue_s = free_at - entry.arrived
        entry.timing.batch_wait_s = run.started - free_at
        entry.timing.engine_s = run.engine_s
        entry.timing.arrived = entry.arrived
        entry.timing.rows = entry.rows
        entry.timing.batch_rows = run.rows
        entry.timing.layers = run.layers


def _expire(entries: list[Entry], timeout_s: float) -> None:
    for entry in entries:
        if not entry.answer.done():
            message = f"no answer within {timeout_s:g} s; allow more time or send less at once"
            entry.answer.set_exception(DeadlineExceeded(message))


def _abandon(answer: asyncio.Future[Tensors]) -> None:
    """Cancel what is not done, and look at what failed beside the piece that was reported."""
    if not answer.cancel() and not answer.cancelled():
        answer.exception()
