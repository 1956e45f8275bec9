"""Whether what was sampled over time grows, by linear regression."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

# The slope counts if it is this many times its own error from nothing ...
_ERRORS = 3.0
# ... and what it adds up to is more than this share of the mean, in the time that was looked at.
_SHARE = 0.02
# What a start fills (caches, pools of memory) is none: so much of the time is left out before.
WARM_UP = 0.25


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through samples: what they rise by in an hour, its error, their mean."""

    per_hour: float
    error: float
    mean: float
    grows: bool

    @property
    def verdict(self) -> str:
        """`flat`, or `grows` with by how much an hour."""
        return f"grows by {self.per_hour:.3g} an hour" if self.grows else "flat"


def slope_of(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the slope of values over seconds by least squares, without the warm-up.

    Fewer than three samples are flat. Samples that follow each other are alike, so that the usual
    error of a slope is too small; it is widened by their correlation (Santer et al. 2000, section
    2.3: the number of samples counts as n (1 - r) / (1 + r) with r of neighbouring residuals).
    """
    first = times_s[0] + WARM_UP * (times_s[-1] - times_s[0]) if times_s else 0.0
    kept = [(at, value) for at, value in zip(times_s, values, strict=True) if at >= first]
    if len(kept) < 3:
        return Slope(0.0, 0.0, values[-1] if values else 0.0, grows=False)
    hours = [at / 3600 for at, _ in kept]
    middle = sum(hours) / len(kept)
    mean = sum(value for _, value in kept) / len(kept)
    spread = sum((hour - middle) ** 2 for hour in hours)
    pairs = list(zip(hours, (value for _, value in kept), strict=True))
    per_hour = sum((hour - middle) * (value - mean) for hour, value in pairs) / spread
    residuals = [value - mean - per_hour * (hour - middle) for hour, value in pairs]
    error = math.sqrt(sum(r * r for r in residuals) / _freedom(residuals) / spread)
    rise = per_hour * (hours[-1] - hours[0])
    grows = per_hour > _ERRORS * error and rise > _SHARE * abs(mean)
    return Slope(per_hour, error, mean, grows)


def _freedom(residuals: Sequence[float]) -> float:
    power = sum(r * r for r in residuals)
    if not power:
        return 1.0
    products = sum(a * b for a, b in itertools.pairwise(residuals))
    alike = min(max(products / power, 0.0), 0.99)
    return max(len(residuals) * (1 - alike) / (1 + alike) - 2, 1.0)
