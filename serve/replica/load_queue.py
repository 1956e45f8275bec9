"""What a pool still has to load, and in which order: what a request waits for goes first.

Held by pool, on the replica's event loop.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from serve.telemetry.faults import Faults

Item = TypeVar("Item", bound=Hashable)


class LoadQueue(Generic[Item]):
    """Calls `load` for each item that is wanted, for `at_once` of them side by side."""

    def __init__(
        self, load: Callable[[Item], Awaitable[None]], at_once: int, faults: Faults
    ) -> None:
        self._load = load
        self._at_once = at_once
        self._faults = faults
        self._waiting: OrderedDict[Item, None] = OrderedDict()
        self._running: dict[Item, asyncio.Task[None]] = {}
        self._again: set[Item] = set()  # wanted anew while they were loaded

    def want(self, item: Item, *, first: bool = False) -> None:
        """Load an item soon, before all others if `first`; once more if it is being loaded."""
        if item in self._running:
            if not first:
                self._again.add(item)
            return
        self._waiting[item] = None
        if first:
            self._waiting.move_to_end(item, last=False)
        self._go_on()

    def forget(self, item: Item) -> None:
        """Do not load an item that is not wanted any more; one that is being loaded goes on."""
        self._waiting.pop(item, None)
        self._again.discard(item)

    @property
    def running(self) -> int:
        """How many are being loaded."""
        return len(self._running)

    def _go_on(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            item, _ = self._waiting.popitem(last=False)
            self._running[item] = asyncio.create_task(self._run(item))

    async def _run(self, item: Item) -> None:
        try:
            with self._faults.noted():
                await self._load(item)
        finally:
            del self._running[item]
            if item in self._again:
                self._again.discard(item)
                self._waiting[item] = None
            self._go_on()
