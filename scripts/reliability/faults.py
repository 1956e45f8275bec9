"""A fault, and how one is done to a platform under load."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from reliability.figures import Cost, cost_of, late_bound_s
from reliability.load import Client
from serve.errors import ServeError

P = TypeVar("P")
CLIENTS = 16  # that find out what a platform bears
_BORNE_S = 4.0
_BEFORE_S = 10.0
_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class Fault(Generic[P]):
    """What is done to a platform: a word, a sentence, and the deed, which returns when it is over.

    `promises_zero`: no request may fail for it. `ends`: the platform does not survive it.
    """

    name: str
    what: str
    do: Callable[[P], None]
    promises_zero: bool = True
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Suffered:
    """A fault that was done: what it cost, and why it could not be done or did not end.

    `rate` is the requests a second that were sent meanwhile.
    """

    fault: str
    what: str
    promises_zero: bool
    rate: float
    cost: Cost
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether it was over in time and cost no request that it may not."""
        return not self.problem and not (self.promises_zero and self.cost.failed)


async def suffer(platform: P, fault: Fault[P], client: Client, share: float) -> Suffered:
    """Do a fault while a share of what the platform bears is sent, from before until after it.

    What it bears is measured anew each time: the machine may have others on it, too.
    """
    rate = share * await client.bears(CLIENTS, _BORNE_S)
    if not rate:
        raise ServeError("the platform answers nothing any more")
    client.outcomes.clear()
    problem = ""
    async with client.sending(rate):
        await asyncio.sleep(_BEFORE_S)
        began = time.monotonic()
        before = list(client.outcomes)
        try:
            await asyncio.to_thread(fault.do, platform)
        except ServeError as err:
            problem = str(err)
        await asyncio.sleep(_AFTER_S)
    cost = cost_of(client.outcomes, began, late_bound_s(before))
    return Suffered(fault.name, fault.what, fault.promises_zero, rate, cost, problem)


def chosen(faults: Sequence[Fault[Any]], names: Sequence[str]) -> list[Fault[Any]]:
    """Return the faults of these names, all where there are none. Raises ServeError."""
    known = {each.name for each in faults}
    if unknown := [name for name in names if name not in known]:
        raise ServeError(f"no fault '{unknown[0]}'; there are {', '.join(sorted(known))}")
    return [each for each in faults if not names or each.name in names]
