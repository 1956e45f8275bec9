"""Errors that nobody foresaw, where work goes on: each kind once in the log, all counted.

Held by what runs again and again: the batcher, the replica's background tasks, changes of its
config. An error of a request is logged by the edge, once for each request.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note whatever Exception is raised inside, and go on after it."""
        try:
            yield
        except Exception as err:
            self.note(err)

    def take(self) -> int:
        """Return how many errors there were since this was last asked."""
        untold, self._untold = self._untold, 0
        return untold


def _kind(err: BaseException) -> object:
    """Return what two errors have in common that one line of the log is enough for.

    Not the message: it may quote what differs each time.
    """
    frames = extract_tb(err.__traceback__)
    place = (frames[-1].filename, frames[-1].lineno) if frames else str(err)
    return type(err), place
