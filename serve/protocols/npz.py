"""Tensors in an .npz file, as people hand rows over: data to compare with, samples to try.

Called by evaluation.dataset and engines.own_samples, which say whose file it is.
"""

from pathlib import Path

import numpy as np

from serve.types import Array, Tensors


def read_arrays(path: Path) -> Tensors:
    """Return the arrays of a file by name. Raises ValueError, which names the file.

    Strings may be bytes or text, which becomes UTF-8.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is one array without a name; write it by numpy.savez(FILE, x=...)")
        with file:
            return {name: _as_bytes(file[name]) for name in file.files}
    # What is wrong with a zip, what it holds, or a header of numpy's is raised by many modules, in
    # as many ways; MemoryError is for a shape that is not there.
    except Exception as err:
        why = str(err) or type(err).__name__
        raise ValueError(f"{path}: cannot be read as .npz: {why}") from err


def _as_bytes(array: Array) -> Array:
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return array.astype(object) if array.dtype.kind == "S" else array
