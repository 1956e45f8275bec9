"""Errors that nobody foresaw, where work goes on: each kind once in the log, all counted.

Held by what runs again and again: the batcher, the replica's background tasks, changes of its
config. An error of a request is logged by the edge, once for each request.
"""

import logging
from traceback import extract_tb

log = logging.getLogger("ray.serve")

_KINDS_KEPT = 100  # enough for every place that can fail; a bound all the same


class Faults:
    """What went wrong in one place; `place` is the tag of the metric, `where` is for the log."""

    def __init__(self, place: str, where: str) -> None:
        self.place = place
        self._where = where
        self._said: set[object] = set()
        self._untold = 0
        self._noted = _Noted(self)

    def count(self) -> None:
        """Count an error that somebody else logs."""
        self._untold += 1

    def note(self, err: BaseException) -> None:
        """Count an error, and log it with its traceback unless the same was logged before."""
        self.count()
        kind = _kind(err)
        if kind in self._said:
            return
        if len(self._said) >= _KINDS_KEPT:
            self._said.clear()
        self._said.add(kind)
        log.error("%s: %s: %s; said once", self._where, type(err).__name__, err, exc_info=err)

    def noted(self) -> "_Noted":
        """Return a context that notes whatever Exception is raised inside, and goes on after it."""
        return self._noted

    def take(self) -> int:
        """Return how many errors there were since this was last asked."""
        untold, self._untold = self._untold, 0
        return untold


class _Noted:
    """A context of `Faults`; a class, since a generator costs a request more than its metrics."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, err: BaseException | None, traceback: object) -> bool:
        if not isinstance(err, Exception):
            return False
        self._faults.note(err)
        return True


def _kind(err: BaseException) -> object:
    """Return what two errors have in common that one line of the log is enough for.

    Not the message: it may quote what differs each time.
    """
    frames = extract_tb(err.__traceback__)
    place = (frames[-1].filename, frames[-1].lineno) if frames else str(err)
    return type(err), place
