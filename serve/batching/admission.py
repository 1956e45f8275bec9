"""Whether a request may wait for the engine, or is told at once that it may not.

Asked by the batcher for every request, and by the endpoint before it reads a body: to refuse costs
a fraction of what an answer does. Two limits hold:

    queue_full  limits.max_queued_requests wait. `batch` requests have half of those places at most,
                and the other half is of the interactive ones alone.
    overload    more interactive requests wait than are computed within limits.max_queue_wait_s and
                than make _BURST good batches (pace), or than _MANY: a queue that long does not
                drain by itself. From then on only so many
                may wait as make the next batch a good one, which keeps the engine as busy as
                a long queue does and lets nobody wait for more than the batch that runs. It ends
                with a second, or the time of a few queues, in which hardly anybody had to be
                refused. Meanwhile `batch` requests are refused altogether.

So a burst waits, and what keeps coming is refused. Nobody is refused for overload while few wait,
nor before some batches have told how long they take.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from serve.batching.pace import Pace
from serve.batching.queue import Queue
from serve.errors import QueueFull
from serve.types import Priority

QUEUE_FULL, OVERLOAD = "queue_full", "overload"
REASONS = (QUEUE_FULL, OVERLOAD)

_FEW = 8  # may always wait
_BURST = 4  # so many batches of them, however slow they are
_MANY = 128  # or two of the largest batches, where those are more
_WINDOW_S = 1.0  # or the time in which _QUEUES of those who may wait are computed, if that is more
_QUEUES = 4
_HARDLY = 0.05  # of those who asked


@dataclass(slots=True)
class _Window:
    """A part of an overload: since when it is, who asked, and who of them was refused."""

    since: float
    asked: int = 0
    refused: int = 0


class Admission:
    """Says who may join a queue; used on the event loop.

    `largest` is the most rows of a batch, `max_wait_s` None refuses nobody for overload; `clock` is
    in seconds. `may_wait` requests are never too many: it is set where fewer would hide from
    autoscaling how much there is to do.
    """

    def __init__(
        self,
        queue: Queue,
        largest: int,
        max_queued_requests: int,
        max_wait_s: float | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.pace = Pace()
        self.may_wait = 0
        self.refusals = 0
        self._queue = queue
        self._many = max(_MANY, 2 * largest)
        self._calm = min(_BURST * _FEW, max_queued_requests // 2)
        self._max_queued = max_queued_requests
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._overload: _Window | None = None
        self._refused: dict[tuple[str, Priority], int] = {}

    @property
    def is_busy(self) -> bool:
        """Tell whether anybody might be refused; where not, nothing else need be asked."""
        return self._overload is not None or len(self._queue) >= self._calm

    def take_refused(self) -> dict[tuple[str, Priority], int]:
        """Return how many were refused since the last time, by reason and priority."""
        refused, self._refused = self._refused, {}
        return refused

    def enter(self, priority: Priority) -> None:
        """Let a request in that is here as a whole. Raises QueueFull."""
        if not self.is_busy:
            return
        if self._overload is not None and priority == "interactive":
            self._overload.asked += 1
        self._require(priority)

    def look_in(self, priority: Priority) -> None:
        """Let a request go on that has still to be read. Raises QueueFull."""
        try:
            self._require(priority)
        except QueueFull:
            if self._overload is not None and priority == "interactive":
                self._overload.asked += 1
            raise

    def _require(self, priority: Priority) -> None:
        refusal = self._why_not_batch() if priority == "batch" else self._why_not_interactive()
        if refusal is None:
            return
        reason, message = refusal
        self.refusals += 1
        self._refused[reason, priority] = self._refused.get((reason, priority), 0) + 1
        if self._overload is not None and priority == "interactive":
            self._overload.refused += 1
        raise QueueFull(message)

    def _why_not_interactive(self) -> tuple[str, str] | None:
        waiting = self._queue.interactive.requests
        most = self._max_queued
        if waiting + self._queue.batch.requests >= most and waiting >= most - most // 2:
            return QUEUE_FULL, _full(len(self._queue))
        if self._is_overloaded() and waiting >= self._enough:
            return OVERLOAD, self._overloaded()
        return None

    def _why_not_batch(self) -> tuple[str, str] | None:
        waiting = self._queue.batch.requests
        most = self._max_queued
        if waiting >= max(1, most // 2) or len(self._queue) >= most:
            return QUEUE_FULL, _full(len(self._queue))
        if self._is_overloaded():
            return OVERLOAD, self._overloaded()
        return None

    def _is_overloaded(self) -> bool:
        window = self._overload
        if window is None:
            if not self._is_long():
                return False
            self._overload = _Window(self._clock())
            return True
        passed, window_s = self._clock() - window.since, self._window_s
        if passed < window_s:
            return True
        # Where nobody came for long, what the window tells is of another time.
        is_over = passed > 2 * window_s or window.refused <= _HARDLY * window.asked
        self._overload = None if is_over else _Window(self._clock())
        return not is_over

    def _is_long(self) -> bool:
        """Tell whether more wait than is worth it, and than a burst may bring."""
        waiting = self._queue.interactive.requests
        if waiting < _FEW or self._max_wait_s is None:
            return False
        speed = self.pace.speed
        if speed is None:
            return False
        burst = max(self._max_wait_s / speed.a_request_s, _BURST * self._enough)
        return waiting >= max(min(self._many, burst), self._enough)

    @property
    def _enough(self) -> int:
        """So many keep the engine busy: those of its next batch."""
        speed = self.pace.speed
        return max(_FEW, self.may_wait, 0 if speed is None else speed.good_batch)

    @property
    def _window_s(self) -> float:
        speed = self.pace.speed
        return max(_WINDOW_S, _QUEUES * self._enough * speed.a_request_s if speed else 0.0)

    def _overloaded(self) -> str:
        return (
            "the replica is overloaded: more requests come than it computes, and "
            f"{len(self._queue)} wait already; try again later, add replicas or raise "
            "limits.max_queue_wait_s"
        )


def _full(waiting: int) -> str:
    return f"{waiting} requests wait already; try again later or raise limits.max_queued_requests"
