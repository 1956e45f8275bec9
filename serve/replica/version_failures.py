"""The versions that could not be loaded: why, and when each is tried again.

Kept by model. Nobody can tell a version that is broken from one whose file comes late or whose
store was away for one fetch, so each is tried again, ever more seldom.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 600.0


@dataclass(slots=True)
class _Failure:
    revision: object
    tries: int
    retry_at: float  # of time.monotonic
    cost_another: bool


class Failures:
    """What failed of one model; `reasons` has the latest error of each version."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self._failed: dict[int, _Failure] = {}

    def note(
        self, number: int, revision: object, reason: str, *, cost_another: bool = False
    ) -> bool:
        """Remember a load that failed; tell whether the reason is another one than before.

        `cost_another` says that a version was unloaded to make room for it.
        """
        before = self._failed.get(number)
        tries = 1 if before is None else before.tries + 1
        # The exponent is bounded: 2.0**1024 is no float.
        wait_s = min(FIRST_RETRY_S * 2.0 ** min(tries - 1, 30), LONGEST_RETRY_S)
        self._failed[number] = _Failure(revision, tries, time.monotonic() + wait_s, cost_another)
        is_new = self.reasons.get(number) != reason
        self.reasons[number] = reason
        return is_new

    def forget(self, number: int) -> None:
        """Forget a version, which has been loaded or is wanted no more."""
        self._failed.pop(number, None)
        self.reasons.pop(number, None)

    def keep(self, revisions: Mapping[int, object]) -> None:
        """Forget all but those that are still there as they were when they failed."""
        for number, failure in list(self._failed.items()):
            if number not in revisions or revisions[number] != failure.revision:
                self.forget(number)

    def is_waiting(self, number: int) -> bool:
        """Tell whether a version has failed and is not to be tried again yet."""
        failure = self._failed.get(number)
        return failure is not None and time.monotonic() < failure.retry_at

    def cost_another(self, number: int) -> bool:
        """Tell whether a version that serves was unloaded for one that then failed.

        To try such a one again would take the model down each time.
        """
        failure = self._failed.get(number)
        return failure is not None and failure.cost_another

    @property
    def is_due(self) -> bool:
        """Tell whether any version should be tried again now."""
        return any(
            not self.is_waiting(number) and not failure.cost_another
            for number, failure in self._failed.items()
        )
