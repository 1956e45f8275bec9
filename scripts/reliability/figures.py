"""What a fault cost: of the outcomes around it, how many failed, how many were late, how long."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from reliability.load import Outcome

# Later than this many times the p99 before counts as late, and no sooner than LEAST_LATE_S: below
# that a garbage collection on a shared machine is as long.
LATE_TIMES = 5.0
LEAST_LATE_S = 0.05
_WINDOW_S = 1.0
_LATE_SHARE = 0.01  # more of a second's requests than this, and its p99 is above the bound


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests of a fault, from when it began until it was over and a while after.

    `failed` counts by what became of them. `recovered_s` is from the fault until the last second
    ended in which a request failed or the p99 was above `late_s`; 0 if there was none.
    """

    sent: int
    failed: Counter[str] = field(default_factory=Counter)
    late: int = 0
    late_s: float = 0.0
    slowest_s: float = 0.0
    recovered_s: float = 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the values are not above (nearest rank)."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def late_bound_s(before: Sequence[Outcome]) -> float:
    """Return the seconds beyond which a request is late, by those that were right before."""
    right = [each.took_s for each in before if not each.failure]
    return max(LATE_TIMES * percentile(right, 0.99), LEAST_LATE_S) if right else LEAST_LATE_S


def cost_of(outcomes: Sequence[Outcome], began_s: float, late_s: float) -> Cost:
    """Return what a fault that began at `began_s` cost: those under way count as those since."""
    since = [each for each in outcomes if each.at_s + each.took_s >= began_s]
    return Cost(
        sent=len(since),
        failed=Counter(each.failure for each in since if each.failure),
        late=sum(not each.failure and each.took_s > late_s for each in since),
        late_s=late_s,
        slowest_s=max((each.took_s for each in since), default=0.0),
        recovered_s=_recovered_s(since, began_s, late_s),
    )


def _recovered_s(since: Sequence[Outcome], began_s: float, late_s: float) -> float:
    windows: dict[int, list[bool]] = {}
    bad: set[int] = set()
    for each in since:
        window = int(max(each.at_s - began_s, 0) / _WINDOW_S)
        windows.setdefault(window, []).append(each.took_s > late_s)
        if each.failure:
            bad.add(window)
    bad |= {window for window, late in windows.items() if sum(late) > _LATE_SHARE * len(late)}
    return (max(bad) + 1) * _WINDOW_S if bad else 0.0
