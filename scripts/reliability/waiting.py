"""Wait for what a fault or a repair brings about."""

import time
from collections.abc import Callable
from typing import TypeVar

from serve.errors import ServeError

T = TypeVar("T")
_PERIOD_S = 0.2


class NotYet(ServeError):
    """What was waited for did not come; the message says what."""


def until(what: str, check: Callable[[], T], timeout_s: float = 240.0) -> T:
    """Return the first true value of a check; one that raises ServeError is asked again.

    Raises NotYet.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            value, said = check(), ""
        except ServeError as err:
            value, said = None, f": {err}"
        if value:
            return value
        if time.monotonic() > deadline:
            raise NotYet(f"not within {timeout_s:g} s: {what}{said}")
        time.sleep(_PERIOD_S)
