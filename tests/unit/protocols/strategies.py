"""What travels: arrays of every datatype, drawn for the property tests of the protocols."""

import ml_dtypes
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

_SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
_NUMBERS = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64",
)  # fmt: skip


def numbers(dtypes=_NUMBERS, finite=True):
    def arrays(dtype):
        width = np.dtype(dtype).itemsize * 8
        elements = (
            st.floats(allow_nan=not finite, allow_infinity=not finite, width=width)
            if np.dtype(dtype).kind == "f"
            else None
        )
        return hnp.arrays(dtype, _SHAPES, elements=elements)

    return st.sampled_from(dtypes).flatmap(arrays)


def bfloats(finite=True):
    lost = st.nothing() if finite else st.sampled_from([np.nan, np.inf, -np.inf])
    elements = st.floats(-8, 8, width=16) | lost
    return hnp.arrays("float32", _SHAPES, elements=elements).map(
        lambda array: array.astype(ml_dtypes.bfloat16)
    )


_BYTES = st.binary(max_size=6)


def strings(elements=_BYTES):
    return hnp.arrays(object, _SHAPES, elements=elements)


def text():
    return strings(st.text(max_size=5).map(str.encode))


def tensors(array, max_size=3):
    names = st.text("abcXYZ_:-/0", min_size=1, max_size=8)
    return st.dictionaries(names, array, min_size=1, max_size=max_size)
