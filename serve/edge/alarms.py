"""One timer of the event loop for many deadlines, of which hardly any ever comes.

A timer of its own for all that a request may be late for would cost a request more than its model's
batch does. So whoever has deadlines keeps them here, in a dict, and the loop is asked to wake for
the first of them alone.
"""

import asyncio
import math
from collections.abc import Callable, Hashable
from time import perf_counter
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)

# What remains is not looked at more often than this, so an item may be told so much later.
_REST_S = 0.005


class Alarms(Generic[Item]):
    """Calls `ring` with each item whose time has come, in that order; used on one event loop.

    Times are of time.perf_counter, in seconds.
    """

    def __init__(self, ring: Callable[[Item], None]) -> None:
        self._ring = ring
        self._due: dict[Item, float] = {}
        self._next = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def set(self, item: Item, at: float) -> None:
        """Ring for an item at a time, unless it is dropped before."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what another loop was to be woken for is of no use any more
            self._loop, self._next = loop, math.inf
            self._due.clear()
        self._due[item] = at
        if at < self._next:
            self._wake_at(at, loop)

    def drop(self, item: Item) -> None:
        """Do not ring for an item any more."""
        self._due.pop(item, None)

    def _wake_at(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = at
        self._timer = loop.call_later(max(0.0, at - perf_counter()), self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = perf_counter()
        late = [item for item, at in self._due.items() if at <= now]
        late.sort(key=self._due.__getitem__)
        for item in late:
            del self._due[item]
        self._next, self._timer = math.inf, None
        if self._due:
            self._wake_at(max(min(self._due.values()), now + _REST_S), loop)
        for item in late:
            self._ring(item)
