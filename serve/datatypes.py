"""The datatypes of the Open Inference Protocol and their numpy and TensorFlow names.

One table; everything that converts between protocols, numpy and TensorFlow reads it.
Source: Open Inference Protocol, "Tensor Data Types"; BF16 is Triton's addition.
"""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Datatype:
    """One protocol datatype; `itemsize` is in bytes and None for BYTES, whose elements vary."""

    name: str
    numpy: np.dtype[np.generic]
    tensorflow: str
    itemsize: int | None


def _row(name: str, numpy: npt.DTypeLike, tensorflow: str) -> Datatype:
    dtype = np.dtype(numpy)
    return Datatype(name, dtype, tensorflow, None if dtype.hasobject else dtype.itemsize)


DATATYPES = {
    row.name: row
    for row in (
        _row("BOOL", np.bool_, "DT_BOOL"),
        _row("UINT8", np.uint8, "DT_UINT8"),
        _row("UINT16", np.uint16, "DT_UINT16"),
        _row("UINT32", np.uint32, "DT_UINT32"),
        _row("UINT64", np.uint64, "DT_UINT64"),
        _row("INT8", np.int8, "DT_INT8"),
        _row("INT16", np.int16, "DT_INT16"),
        _row("INT32", np.int32, "DT_INT32"),
        _row("INT64", np.int64, "DT_INT64"),
        _row("FP16", np.float16, "DT_HALF"),
        _row("BF16", ml_dtypes.bfloat16, "DT_BFLOAT16"),
        _row("FP32", np.float32, "DT_FLOAT"),
        _row("FP64", np.float64, "DT_DOUBLE"),
        _row("BYTES", np.object_, "DT_STRING"),
    )
}

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_BY_NUMPY = {row.numpy: row for row in DATATYPES.values()}
_BY_TENSORFLOW = {row.tensorflow: row for row in DATATYPES.values()}


def from_numpy(dtype: npt.DTypeLike) -> Datatype:
    """Return the datatype of a numpy dtype; strings of any kind are BYTES. Raises KeyError."""
    dtype = np.dtype(dtype)
    return DATATYPES["BYTES"] if dtype.kind in "SU" else _BY_NUMPY[dtype]


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds floats; numpy's kind of bfloat16 is not that of the others."""
    return dtype.kind == "f" or dtype == _BFLOAT16


def from_tensorflow(name: str) -> Datatype:
    """Return the datatype of a TensorFlow DataType name such as DT_FLOAT. Raises KeyError."""
    return _BY_TENSORFLOW[name]
