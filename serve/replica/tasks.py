"""What a replica does again and again beside its requests: tasks that go on whatever they raise.

Held by servable, pool and the gateway's deployment.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from serve.errors import ModelNotReady, ServeError
from serve.telemetry.faults import Faults

log = logging.getLogger("ray.serve")

_MOST_SAID = 20  # different errors of one task in the log, until it works again


class Tasks:
    """The background tasks of something, by name; `whose` names it in errors."""

    def __init__(self, whose: str) -> None:
        self.running: dict[str, asyncio.Task[None]] = {}
        self.faults = Faults("task", f"a background task of {whose}")
        self._whose = whose

    def start(self, name: str, action: Callable[[], Awaitable[None]], period_s: float) -> None:
        """Do something every `period_s`, unless that was begun before."""
        if name not in self.running:
            task = asyncio.create_task(repeat(action, period_s, self.faults))
            self.running[name] = task

    def require_running(self) -> None:
        """Raise ModelNotReady if one has ended, which none should."""
        for name, task in self.running.items():
            if task.done():
                raise ModelNotReady(f"{self._whose}: the background task '{name}' has ended")

    def stop(self) -> None:
        for task in self.running.values():
            task.cancel()


async def repeat(
    action: Callable[[], Awaitable[None]], period_s: float, faults: Faults | None = None
) -> None:
    """Do something every `period_s`, whatever it raises; each error is said once until it works."""
    faults = faults or Faults("task", "a background task")
    said: set[str] = set()
    while True:
        await asyncio.sleep(period_s)
        try:
            await action()
            said.clear()
        except ServeError as err:  # the repository is away; once is enough in the log
            if str(err) not in said and len(said) < _MOST_SAID:
                log.warning("%s", err)
                said.add(str(err))
        except Exception as err:
            faults.note(err)
