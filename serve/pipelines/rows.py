"""Rows of tensors: choose some, and put outputs back where their rows came from.

A member that answers other rows than it was given would put numbers where they do not belong, also
silently, since numpy stretches a single row over many; so every answer is counted.
"""

import numpy as np
import numpy.typing as npt

from serve.datatypes import DATATYPES, is_float
from serve.errors import InferenceFailed
from serve.types import Array, Tensors, TensorSpec

Rows = npt.NDArray[np.intp]


def choose(tensors: Tensors, rows: Rows) -> Tensors:
    """Return only these rows."""
    return {name: array[rows] for name, array in tensors.items()}


def require_rows(label: str, outputs: Tensors, rows: int) -> None:
    """Raise InferenceFailed unless each output has a row for each that the member was given."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise InferenceFailed(
                f"member '{label}' was given {rows} rows and its output '{name}' is "
                f"{list(array.shape)}; a pipeline needs one row for each"
            )


def put(into: Tensors, rows: Rows, outputs: Tensors, total: int) -> None:
    """Write outputs to their rows; tensors are made when their shape is first known.

    Raises InferenceFailed for an output whose rows have another shape than those that are there.
    """
    for name, array in outputs.items():
        if name not in into:
            into[name] = _empty((total, *array.shape[1:]), array.dtype)
        elif into[name].shape[1:] != array.shape[1:]:
            raise InferenceFailed(
                f"the members' outputs '{name}' differ in shape, {list(into[name].shape[1:])} and "
                f"{list(array.shape[1:])} a row, and cannot be answered as one tensor"
            )
        into[name][rows] = array


def fill_missing(into: Tensors, specs: tuple[TensorSpec, ...], total: int) -> None:
    """Make tensors that no row has a value for, so that every output is there."""
    for spec in specs:
        if spec.name not in into:
            inner = [max(size, 0) for size in (spec.shape or (-1,))[1:]]
            into[spec.name] = _empty((total, *inner), DATATYPES[spec.datatype].numpy)


def _empty(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return NaN for floats, empty strings, zeros: what a row holds that no member computed."""
    if dtype.hasobject:
        return np.full(shape, b"", object)
    return np.full(shape, np.nan, dtype) if is_float(dtype) else np.zeros(shape, dtype)
