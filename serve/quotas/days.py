"""Seconds of compute by the day of UTC on which they were spent.

A wall clock may jump. Each day keeps its own sum, so a clock that comes back to a day finds what
was spent on it: nothing is had twice, nothing becomes negative, and only as many days are kept as a
clock can be wrong about.
"""

from collections.abc import Set as AbstractSet

DAY_S = 86_400
_KEPT = 3


def day_of(now: float) -> int:
    """Return the number of the day since 1970, at a time in seconds since then."""
    return int(now // DAY_S)


def left_of_day_s(now: float) -> float:
    """Return the seconds until the day of a time is over: above 0, a day at most."""
    return DAY_S - now % DAY_S


class Days:
    """Sums by day and key."""

    def __init__(self) -> None:
        self._days: dict[int, dict[str, float]] = {}

    def spent(self, day: int, key: str) -> float:
        return self._days.get(day, {}).get(key, 0.0)

    def add(self, day: int, key: str, seconds: float) -> None:
        self.set(day, key, self.spent(day, key) + max(0.0, seconds))

    def set(self, day: int, key: str, seconds: float) -> None:
        """Have a day's sum be this."""
        if day not in self._days:
            self._days[day] = {}
            # Those that were begun first go: where the clock was last counts, not what it said.
            for old in list(self._days)[:-_KEPT]:
                del self._days[old]
        self._days[day][key] = seconds

    def keys(self, day: int) -> AbstractSet[str]:
        """Return the keys that have a sum on a day."""
        return self._days.get(day, {}).keys()
