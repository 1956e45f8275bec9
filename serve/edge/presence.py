"""Whether a client sends its request in time, and whether it still waits for its response.

The connection says it: HAProxy closes the one to the replica when a client closes its own (Ray's
configuration has `option abortonclose`), and ASGI's `receive` then returns `http.disconnect`.
"""

import asyncio
import math
from time import perf_counter
from types import TracebackType

from serve.edge.alarms import Alarms
from serve.edge.asgi import Disconnected, Receive
from serve.errors import DeadlineExceeded

# Most requests have their response sooner; for those that have it nobody watches.
WATCH_AFTER_S = 0.1
_ASK_AGAIN_S = 0.02


class Presence:
    """Cancels the block of the current task when there is no client to do it for.

    Raises DeadlineExceeded if the body is not there in time (`allow`, `has_body`), Disconnected if
    the client hangs up after that. What the block waits for learns of it by CancelledError.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._has_body = False
        self._allowed_s = math.inf
        self._why: Exception | None = None
        self._watching: asyncio.Task[None] | None = None

    def __enter__(self) -> "Presence":
        self._task = asyncio.current_task()
        self._entered = perf_counter()
        _ALARMS.set(self, self._entered + WATCH_AFTER_S)
        return self

    def allow(self, seconds: float) -> None:
        """Have the body read within so many seconds of the beginning of the block."""
        self._allowed_s = seconds
        if seconds < WATCH_AFTER_S:
            _ALARMS.set(self, self._entered + seconds)

    def has_body(self) -> None:
        """Stop minding the time: the body is read."""
        self._has_body = True

    def look(self) -> None:
        """See to a request that takes longer than most."""
        if self._has_body:
            self._watching = asyncio.get_running_loop().create_task(self._wait_for_disconnect())
        elif perf_counter() < self._entered + self._allowed_s:
            _ALARMS.set(self, self._entered + self._allowed_s)
        else:
            self._end(DeadlineExceeded(f"the body was not here within {self._allowed_s:.3g} s"))

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            await asyncio.sleep(_ASK_AGAIN_S)  # a server that always has a message is asked rarely
        self._end(Disconnected())

    def _end(self, why: Exception) -> None:
        self._why = why
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _ALARMS.drop(self)
        if self._watching is not None:
            self._watching.cancel()
        if self._why is None or self._task is None:
            return
        # Unless somebody else cancelled the task, too, who will want to know of it.
        if self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._why from error


_ALARMS: Alarms[Presence] = Alarms(Presence.look)
