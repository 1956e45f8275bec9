"""How much memory a pool's process has, and which of its models goes when that is too much.

Held by pool. The models that were not asked for longest go first, none that is at work, and none
that has only just come: a pool whose models do not fit answers slowly and does not spend its time
with loading alone.
"""

import time
from collections.abc import Collection
from typing import Protocol

from serve.engines.memory import resident_bytes

# A model that was loaded stays so long at least. Whoever needs its place waits, or is told 503.
_RESIDENCE_S = 10.0


class Resident(Protocol):
    """A model in the process: when it was loaded and last asked for (time.monotonic)."""

    loaded: float
    used: float
    bytes: int

    @property
    def is_loaded(self) -> bool:
        """Whether a version of it is in memory."""

    @property
    def is_busy(self) -> bool:
        """Whether a request for it is here."""


class Memory:
    """The bound of one process; `limit_bytes` None is none."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None

    def has_room(self, more_bytes: int = 0) -> bool:
        """Tell whether so much more would be below the bound."""
        return self.limit_bytes is None or resident_bytes() + more_bytes <= self.limit_bytes

    def victim(self, residents: Collection[Resident], keep: int = 0) -> "Resident | None":
        """Return who may go first of these, None if nobody may; `keep` stay loaded in any case."""
        loaded = [each for each in residents if each.is_loaded]
        if len(loaded) <= keep:
            return None
        before = time.monotonic() - _RESIDENCE_S
        idle = [each for each in loaded if not each.is_busy and each.loaded <= before]
        return min(idle, key=lambda each: each.used, default=None)


def expected_bytes(resident: Resident, residents: Collection[Resident]) -> int:
    """Return how much a model should take: what it took before, or what the others do."""
    if resident.bytes:
        return resident.bytes
    known = [each.bytes for each in residents if each.bytes]
    return sum(known) // len(known) if known else 0
