"""From a model's outputs to one prediction a row, to be compared with labels."""

import numpy as np

from serve.types import Array, Tensors

_MARKS = {"layer", "member"}  # outputs that pipelines add: which member a row was answered by


def predicted(outputs: Tensors, labels: Array) -> Array | None:
    """Return a prediction for each row in the labels' own terms; None if the model has none.

    Text labels are compared with the output of text; numbers with the class of the largest
    probability or, for a model with one output, of the largest number; else with a whole number.
    """
    if labels.dtype.hasobject:
        texts = [a for name, a in outputs.items() if a.dtype.hasobject and name not in _MARKS]
        return texts[0] if len(texts) == 1 else None
    tables = [array for array in outputs.values() if array.dtype.kind == "f" and array.ndim == 2]
    distributions = [table for table in tables if is_distribution(table)]
    if distributions or (len(tables) == 1 and len(outputs) == 1):
        return _largest((distributions or tables)[0])
    whole = [array for array in outputs.values() if array.dtype.kind in "iu" and array.ndim == 1]
    return whole[0] if len(whole) == 1 else None


def is_distribution(array: Array) -> bool:
    """Tell whether every row without NaN, which marks a missing one, holds class probabilities."""
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] < 2:
        return False
    present = array[~np.isnan(array).any(axis=1)]
    return bool((present >= 0).all()) and bool(np.allclose(present.sum(axis=1), 1, atol=1e-3))


def _largest(table: Array) -> Array:
    """Return the class of each row; -1, which is no class, for a row with NaN, which has none."""
    absent = np.isnan(table).any(axis=1)
    return np.where(absent, -1, np.nan_to_num(table, nan=-np.inf).argmax(axis=1))
