"""Calls that block, in threads: each is waited for within a bound, and goes on behind it.

Held by model for its looks into the repository and its loads. A thread cannot be ended; so one that
hangs is left alone, nothing else waits for it, and what it returns in the end is taken then.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from serve.errors import RepositoryError

T = TypeVar("T")


class LateCalls:
    """The calls of one replica that have not come back, by key; used on its event loop."""

    def __init__(self) -> None:
        self._running: dict[Hashable, tuple[asyncio.Future[Any], float]] = {}

    async def result(self, key: Hashable, action: Callable[[], T], bound_s: float, late: str) -> T:
        """Return what `action` does, or what a call with this key did that was late before.

        Raises RepositoryError, which says `late`, as soon as it has taken `bound_s`.
        """
        future: asyncio.Future[T]
        if key in self._running:
            future, since = self._running.pop(key)
        else:
            # No task around it: one that raises SystemExit would end the event loop.
            loop = asyncio.get_running_loop()
            future, since = loop.run_in_executor(None, action), time.monotonic()
        try:
            left_s = max(0.0, since + bound_s - time.monotonic())
            await asyncio.wait({future}, timeout=left_s)
        finally:
            if not future.done():
                self._running[key] = future, since
        if not future.done():
            raise RepositoryError(late)
        return future.result()

    def drop(self, key: Hashable, let_go: Callable[[Any], None]) -> None:
        """Wait no more for a call that is late; `let_go` gets what it returns in the end."""

        def end(future: asyncio.Future[Any]) -> None:
            if not future.cancelled() and future.exception() is None:
                let_go(future.result())

        future, _ = self._running.pop(key)
        future.add_done_callback(end)

    @property
    def keys(self) -> list[Hashable]:
        """The calls that are late."""
        return list(self._running)
