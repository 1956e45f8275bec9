"""Ctrl-C and SIGTERM as something that can be waited for.

Called by `strata up`.
"""

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType


class StopSignal:
    """Whether SIGINT or SIGTERM has come since `listen`; for the main thread.

    A threading.Event would not do: the handler runs in the thread that waits, and where that holds
    the event's lock just then, `set` waits for it for ever. A SimpleQueue may be put to there.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._came: SimpleQueue[int] = SimpleQueue()

    def listen(self) -> None:
        """Take both signals from now on, whoever had them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def wait(self, timeout_s: float) -> bool:
        """Return once one has come, or after so many seconds; tell whether one has."""
        if not self.is_set:
            with suppress(Empty):
                self._came.get(timeout=timeout_s)
        return self.is_set

    def require_none(self) -> None:
        """Raise KeyboardInterrupt if one has come."""
        if self.is_set:
            raise KeyboardInterrupt

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        self._came.put(number)
