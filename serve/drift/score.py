"""How far two distributions over the same bins are apart: the population stability index.

Formula and thresholds: Siddiqi, "Credit Risk Scorecards" (2006), chapter "Scorecard monitoring":
below 0.1 nothing changed, above 0.25 it did. Distribution for samples of one population: Yurdakul,
"Statistical Properties of Population Stability Index" (2018): (1/n + 1/m) times chi-square with
bins - 1 degrees of freedom.
"""

import numpy as np

from serve.drift.bins import Counts

# With so many rows on both sides the index of one population over 10 bins is 0.036 on average, and
# at most one statistic in 300 reaches 0.1 by chance.
LEAST_ROWS = 500
_PRIOR = 0.5  # Jeffreys: a bin that is empty on one side says "few", not "never"


def stability_index(first: Counts, second: Counts) -> float:
    """Return sum((a - b) * ln(a / b)), where a and b are the shares of the rows in each bin.

    It is 0 if a side has no rows. Bins that are empty on both sides do not count.
    """
    if not first.sum() or not second.sum():
        return 0.0
    used = (first > 0) | (second > 0)
    a, b = first[used] + _PRIOR, second[used] + _PRIOR
    a, b = a / a.sum(), b / b.sum()
    return float(np.sum((a - b) * np.log(a / b)))


def expected_index(bins: int, rows: int, baseline_rows: int) -> float:
    """Return the index that two samples of one population have on average."""
    return (bins - 1) * (1 / rows + 1 / baseline_rows)
