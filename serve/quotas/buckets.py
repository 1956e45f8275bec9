"""A bucket of rows: filled at a steady rate, emptied by requests, never above its brim.

`rate` rows come in each second, and the brim is what comes in within one. So within any t seconds
no more than rate * (t + 1) go out of it, the token bucket of RFC 2697 with a burst of a second.

A replica that has a part of a limit alone has a small bucket, and a request for more rows than that
may still be one that the limit allows: it is let through by a full bucket, which then owes the
rest. Over time no more go out for that; within t seconds no more than rate * t and the request.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Rows that are left, less than none if some are owed, at a time of a monotonic clock in s."""

    at: float
    left: float = 0.0

    def fill(self, rate: float, now: float) -> None:
        """Take in what has come since; a clock that goes back brings nothing."""
        self.left = min(rate, self.left + max(0.0, now - self.at) * rate)
        self.at = now

    def wait_s(self, rows: float, rate: float) -> float:
        """Return the seconds until so many rows may go out, 0 for now; `rate` is not 0."""
        return max(0.0, (min(rows, rate) - self.left) / rate)
