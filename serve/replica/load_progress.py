"""How far the loading of a version is, as the status shows it.

Kept by model for each load; the thread that loads writes, the event loop reads.
"""

import time
from dataclasses import dataclass, field

from serve.repository.progress import amount


@dataclass(slots=True)
class LoadProgress:
    """A load's phase, and how much of that is done; a listener of repository.progress."""

    _started: float = field(default_factory=time.monotonic)
    _now: tuple[str, int, int] = ("waiting for a thread", 0, 0)

    def __call__(self, phase: str, done: int, total: int) -> None:
        self._now = phase, done, total  # one reference: read as a whole

    def __str__(self) -> str:
        """Return the phase for people: `reading 1.2 of 2.1 GB, for 12 s`."""
        phase, done, total = self._now
        part = f" {amount(done, total)}" if total else ""
        return f"{phase}{part}, begun {time.monotonic() - self._started:.0f} s ago"
