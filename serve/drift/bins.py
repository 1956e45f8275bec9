"""Bins of a statistic, chosen for its baseline, and how many values fall into each.

Counts over the same bins are merged by adding them: of batches, of periods, of replicas.
"""

import numpy as np
import numpy.typing as npt

from serve.drift.statistics import Values

BINS = 10
_TOLERANCE = 1e-6  # of the values' scale: the last bits of an output differ between machines

Counts = npt.NDArray[np.int64]
Edges = npt.NDArray[np.float64]


def edges_of(values: Values) -> Edges:
    """Return the ascending edges of bins with a tenth of the values each, open at both ends.

    A value that many rows share has a bin of its own, and so has every value where at most ten
    differ: what is above or below a constant falls into another bin. NaN and inf are left out.
    """
    finite = np.sort(values[np.isfinite(values)].astype(float))
    if not len(finite):
        return np.array([])
    at = np.arange(1, BINS) * len(finite) // BINS
    quantiles, repeats = np.unique(finite[at], return_counts=True)
    distinct = np.unique(finite)
    shared = distinct if len(distinct) <= BINS else quantiles[repeats > 1]
    tolerance = _TOLERANCE * np.abs(quantiles).max() + np.finfo(float).tiny
    with np.errstate(over="ignore"):
        around = np.concatenate([shared - tolerance, shared + tolerance])
    edges: Edges = np.unique(np.concatenate([np.setdiff1d(quantiles, shared), around]))
    return edges[np.isfinite(edges)]


def count(values: Values, edges: Edges) -> Counts:
    """Return how many values are in each of the `len(edges) + 1` bins, and as the last NaN and inf.

    A value on an edge belongs to the bin above.
    """
    places = np.searchsorted(edges, values, side="right")
    places[~np.isfinite(values)] = len(edges) + 1
    return np.bincount(places, minlength=len(edges) + 2)
