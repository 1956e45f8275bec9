"""One model of a pool: what serves it, and whether it is in memory.

Kept by pool, one for each model of its user_config.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve.replica.servable import Servable


@dataclass(slots=True, eq=False)
class Member:
    """One model of a pool.

    `served` is what it is made of, `settings` what it takes in place. `is_in` says that it is
    loaded or could not be; a request waits for that, which `has_come` tells. `was_tried` says that
    it was loaded, failed, or found no room since it was told to. Times are of time.monotonic; `why`
    is what those are told who waited in vain.
    """

    servable: Servable
    served: Mapping[str, Any]
    settings: Mapping[str, Any]
    loaded: float = 0.0
    used: float = 0.0
    bytes: int = 0
    is_in: bool = False
    was_tried: bool = False
    has_come: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    calls: int = 0
    why: str = ""

    @property
    def name(self) -> str:
        return self.servable.name

    @property
    def is_loaded(self) -> bool:
        """Whether a version of it is in memory."""
        return bool(self.servable.model.versions)

    @property
    def is_busy(self) -> bool:
        """Whether a request for it is here."""
        return bool(self.servable.endpoint.in_flight or self.calls or self.waiting)

    def come(self) -> None:
        """It is loaded, or could not be: whoever waits goes on."""
        self.is_in = self.was_tried = True
        self.has_come.set()

    def leaves(self) -> bool:
        """Have the next request wait for it to be loaded; refuse if there is one here."""
        if self.is_busy:
            return False
        self.is_in = False
        self.has_come.clear()
        return True

    async def take_accounts(self, settings: Mapping[str, Any]) -> None:
        """Count requests and costs by these settings from now on."""
        self.settings = settings
        await self.servable.take_accounts(settings)
