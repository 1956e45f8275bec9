"""Until when the work at hand is of use to somebody, as it crosses threads and processes.

Set around an engine call by execution and by layers that have less time, read by members of
pipelines that wait for others. Times are of time.perf_counter.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DEADLINE: ContextVar[float] = ContextVar("strata_deadline", default=math.inf)


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Work until a time, or until the one that is set already if that is earlier."""
    token = _DEADLINE.set(min(deadline, _DEADLINE.get()))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def left_s(most_s: float) -> float:
    """Return the seconds that are left, at most `most_s`; none left are 0."""
    return min(most_s, max(0.0, _DEADLINE.get() - time.perf_counter()))
