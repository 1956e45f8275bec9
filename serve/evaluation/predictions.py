"""What a model's outputs are: its own, and which of them are probabilities of classes."""

import numpy as np

from serve.datatypes import is_float
from serve.types import Array, Tensors

# Outputs that pipelines add: which member a row was answered by, and whether it was.
_MARKS = {"layer": "O", "member": "O", "degraded": "b", "abstained": "b"}


def own_outputs(outputs: Tensors) -> Tensors:
    """Return the outputs without those that pipelines add; bfloat16 as float32."""
    return {
        name: a.astype(np.float32) if a.dtype.kind == "V" and is_float(a.dtype) else a
        for name, a in outputs.items()
        if _MARKS.get(name) != a.dtype.kind
    }


def is_distribution(array: Array) -> bool:
    """Tell whether every row without NaN, which marks a missing one, holds class probabilities."""
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] < 2:
        return False
    present = array[~np.isnan(array).any(axis=1)]
    return bool((present >= 0).all()) and bool(np.allclose(present.sum(axis=1), 1, atol=1e-3))
