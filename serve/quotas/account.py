"""The quotas of one request: what is asked before it is computed, and what it is charged after."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

from serve.errors import CountsAway, OverQuota
from serve.quotas.count import Count, Headers, refusal, told
from serve.quotas.limits import COMPUTE, ROWS, Limit

# Why a request was refused, where no limit was: its counts are away.
UNCOUNTED = "uncounted"
REASONS = (ROWS, COMPUTE, UNCOUNTED)
_WAIT_S = attrgetter("wait_s")


@dataclass(frozen=True, slots=True)
class Taken:
    """What the limits have left; None where that cannot be told, and no request is let through.

    `is_shared` is False where it should have been counted with the other replicas, and was not.
    """

    counts: list[Count] | None
    is_shared: bool = True


class Counts(Protocol):
    """Who counts (keeper)."""

    async def take(self, limits: Sequence[Limit], rows: int) -> Taken:
        """Take rows of all limits, or of none where one has too few left."""

    def give_back(self, limits: Sequence[Limit], rows: int) -> None:
        """Put back rows that were taken and not computed."""

    def charge(self, limits: Sequence[Limit], seconds: float) -> None:
        """Add what a request cost."""


class Account:
    """Asked by the model that computes the request; `headers` are for its response.

    `refused` is why it was refused, one of REASONS, None if it was not; `is_shared` as in Taken.
    """

    __slots__ = ("_counts", "_is_charged", "_limits", "_rows", "headers", "is_shared", "refused")

    def __init__(self, counts: Counts, limits: Sequence[Limit]) -> None:
        self.headers: Headers = []
        self.refused: str | None = None
        self.is_shared = True
        self._counts = counts
        self._limits = limits
        self._rows = 0
        self._is_charged = False

    @property
    def is_over(self) -> bool:
        """Whether the request was refused since its tenant has too little left."""
        return self.refused is not None and self.refused != UNCOUNTED

    async def admit(self, rows: int) -> None:
        """Take the rows of a request. Raises OverQuota, CountsAway."""
        taken = await self._counts.take(self._limits, rows)
        self.is_shared, counts = taken.is_shared, taken.counts
        if counts is None:
            self.refused = UNCOUNTED
            raise CountsAway(
                f"what the tenant {self._limits[0].tenant} has left of its quota cannot be counted "
                "now; try again"
            )
        self.headers = told(counts)
        tightest = max(counts, key=_WAIT_S)
        if tightest.wait_s:
            self.refused = tightest.limit.kind
            raise OverQuota(refusal(tightest, rows))
        self._rows = rows

    def give_back(self) -> None:
        """Put the rows back, unless some of them were computed, by a pipeline's first members."""
        if not self._is_charged:
            self._counts.give_back(self._limits, self._rows)

    def charge(self, seconds: float) -> None:
        """Add what a batch cost of which the request had a part; its part."""
        self._is_charged = True
        self._counts.charge(self._limits, seconds)
