"""How fast requests are computed, by what batches of late took: what admission reckons with.

Told of every batch by the batcher. A batch takes the engine's time and, on a replica that computes
small models, more of the event loop's: reading, decoding and encoding its requests. The loop's time
is told for batches that followed each other without a rest and without a refusal, so that neither
idle work nor the work of refusing is taken for theirs.
"""

import math
from dataclasses import dataclass

_FORGET = 0.95  # a batch, of what was known of batches of about its size
_KNOWN = 4  # batches, before anything is said
# A batch is large enough if a larger one computes hardly more rows a second.
_NEARLY = 0.85


@dataclass(slots=True)
class _Sums:
    """Of batches of late, the older the less."""

    rows: float = 0.0
    requests: float = 0.0
    seconds: float = 0.0
    batches: float = 0.0

    @property
    def mean(self) -> tuple[float, float]:
        """The rows and seconds of a batch."""
        return self.rows / self.batches, self.seconds / self.batches

    def add(self, rows: float, requests: float, seconds: float) -> None:
        self.rows = self.rows * _FORGET + rows
        self.requests = self.requests * _FORGET + requests
        self.seconds = self.seconds * _FORGET + seconds
        self.batches = self.batches * _FORGET + 1


@dataclass(frozen=True, slots=True)
class Speed:
    """What a replica computes: seconds a request at best, and the requests of a good batch.

    A good batch is the smallest by which nearly as much is computed as by the fastest.
    """

    a_request_s: float
    good_batch: int


class Pace:
    """Adds up batches by their size, within a factor of two."""

    def __init__(self) -> None:
        self._by_size: dict[int, _Sums] = {}
        self._all = _Sums()
        self._loop = _Sums()
        self._batches = 0
        self._speed: Speed | None = None

    def learn(self, rows: int, padded_rows: int, requests: float, seconds: float) -> None:
        """Take one call of the engine; of a request that was cut only a part is in it."""
        size = (max(padded_rows, 1) - 1).bit_length()
        self._by_size.setdefault(size, _Sums()).add(max(padded_rows, 1), 0.0, seconds)
        self._all.add(max(rows, 1), requests, seconds)
        self._batches += 1
        self._speed = None

    def learn_loop(self, requests: float, seconds: float) -> None:
        """Take what the event loop spent on the requests of one batch, in seconds of CPU."""
        self._loop.add(0.0, requests, seconds)

    @property
    def speed(self) -> Speed | None:
        """What is computed at best, None where too little is known."""
        if self._speed is None and self._batches >= _KNOWN:
            self._speed = self._reckoned()
        return self._speed

    def _reckoned(self) -> Speed:
        """Compare sizes by what a full batch computes: when many wait there is no padding."""
        rows_a_request = self._all.rows / self._all.requests
        loop_s = self._loop.seconds / self._loop.requests if self._loop.requests else 0.0
        a_row_s = loop_s / rows_a_request
        rates = {
            rows: rows / max(seconds + rows * a_row_s, 1e-9)
            for rows, seconds in self._calls().items()
        }
        best = max(rates.values())
        rows = min(rows for rows, rate in rates.items() if rate >= _NEARLY * best)
        return Speed(rows_a_request / best, math.ceil(rows / rows_a_request))

    def _calls(self) -> dict[float, float]:
        """Return the seconds of a call by its rows; of a size between two that were seen, too."""
        seen = sorted(self._by_size)
        calls = {}
        for size, larger in zip(seen, [*seen[1:], seen[-1] + 1], strict=True):
            rows, seconds = self._by_size[size].mean
            calls[rows] = seconds
            for between in range(size + 1, larger):
                more_rows, more_seconds = self._by_size[larger].mean
                part = (2**between - rows) / (more_rows - rows)
                calls[float(2**between)] = seconds + part * (more_seconds - seconds)
        return calls
