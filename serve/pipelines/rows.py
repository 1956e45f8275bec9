"""Rows of tensors: choose some, and put outputs back where their rows came from."""

import numpy as np
import numpy.typing as npt

from serve.datatypes import DATATYPES
from serve.types import Array, Tensors, TensorSpec

Rows = npt.NDArray[np.intp]


def choose(tensors: Tensors, rows: Rows) -> Tensors:
    """Return only these rows."""
    return {name: array[rows] for name, array in tensors.items()}


def put(into: Tensors, rows: Rows, outputs: Tensors, total: int) -> None:
    """Write outputs to their rows; tensors are made when their shape is first known."""
    for name, array in outputs.items():
        if name not in into:
            into[name] = _empty((total, *array.shape[1:]), array.dtype)
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
    return np.full(shape, np.nan, dtype) if dtype.kind == "f" else np.zeros(shape, dtype)
