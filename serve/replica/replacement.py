"""Versions that make room before their successor is loaded, and the requests that wait meanwhile.

Held by model, for `version_policy: {replace: before_load}`. The model has no version then for as
long as the load takes, if it had only one: inferences wait for it within their own time.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from serve.engines.memory import release
from serve.errors import QueueFull
from serve.replica.loaded_version import LoadedVersion

log = logging.getLogger("ray.serve")


class Replacement:
    """What is under way in one model; used on the replica's event loop.

    `leaving` are versions that finish the requests that they have. At most `most_waiting` requests
    wait for a version.
    """

    def __init__(self, model: str, most_waiting: int) -> None:
        self.leaving: dict[int, LoadedVersion] = {}
        self._model = model
        self._most_waiting = most_waiting
        self._coming: int | None = None
        self._over = asyncio.Event()
        self._waiting = 0

    @property
    def coming(self) -> int | None:
        """The version that is loaded in the place of others now, None if there is none."""
        return self._coming

    def begin(self, number: int) -> None:
        self._coming = number
        self._over.clear()

    def end(self) -> None:
        """Let those who wait look again: a version serves now, or nothing comes any more."""
        self._coming = None
        self._over.set()

    async def let_go(self, going: Mapping[int, LoadedVersion], bound_s: float) -> None:
        """Have versions finish their requests, and return once their memory is free.

        Or after `bound_s`: an engine that does not come back is left to the health check.
        """
        gone = {number: asyncio.Event() for number in going}
        self.leaving |= going
        for number, loaded in going.items():
            loaded.close(then=gone[number].set)
        with suppress(TimeoutError):
            async with asyncio.timeout(bound_s):
                for event in gone.values():
                    await event.wait()
        for number, event in gone.items():
            if event.is_set():
                del self.leaving[number]
            else:
                log.warning(
                    "model '%s' version %d still computes after %.0f s; version %s is loaded "
                    "beside it",
                    self._model,
                    number,
                    bound_s,
                    self._coming,
                )
        await asyncio.to_thread(release)

    async def over(self, timeout_s: float) -> None:
        """Wait until a replacement is over, or the time is up. Raises QueueFull."""
        if self._waiting >= self._most_waiting:
            raise QueueFull(
                f"{self._waiting} requests wait already for version {self._coming} of model "
                f"'{self._model}', which is being loaded; try again later"
            )
        self._waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._over.wait()
        finally:
            self._waiting -= 1
