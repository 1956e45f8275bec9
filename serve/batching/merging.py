"""Shape many requests into one batch, and its outputs back into many.

Called by the batcher once it has decided that a batch is due. Pure numpy: knows nothing of
Ray or TensorFlow. All arrays have the batch dimension first.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from serve.errors import RowsMixed
from serve.types import Array, Tensors


def rows_of(inputs: Tensors) -> int:
    """Return the number of rows, which are equal for all inputs of a batch (see has_rows)."""
    for array in inputs.values():
        return int(array.shape[0])
    return 1


def has_rows(inputs: Tensors) -> bool:
    """Tell whether all inputs have as many rows; such that have not are served in one piece."""
    return len({array.shape[:1] for array in inputs.values()}) == 1


def shape_key(signature: str, inputs: Tensors) -> Hashable:
    """Return what two requests must have in common to share a batch."""
    return signature, tuple((name, a.dtype.char, a.shape[1:]) for name, a in inputs.items())


def chunks(inputs: Tensors, largest: int) -> list[Tensors]:
    """Cut a request into pieces of at most `largest` rows; one that fits stays as it is."""
    rows = rows_of(inputs)
    if rows <= largest:
        return [inputs]
    return [
        {name: array[start : start + largest] for name, array in inputs.items()}
        for start in range(0, rows, largest)
    ]


def padded_size(rows: int, allowed_sizes: Sequence[int]) -> int:
    """Return the smallest allowed size that holds `rows`, or `rows` above the largest."""
    return next((size for size in allowed_sizes if size >= rows), rows)


def merge(parts: Sequence[Tensors], size: int) -> Tensors:
    """Stack the rows of compatible requests and pad up to `size` rows.

    Padding repeats the first row: unlike zeros it is a value that the model has to accept.
    """
    first = parts[0]
    if len(parts) == 1 and rows_of(first) == size:
        return first
    return {name: _stack([part[name] for part in parts], size) for name in first}


def _stack(arrays: Sequence[Array], size: int) -> Array:
    stacked = np.empty((size, *arrays[0].shape[1:]), arrays[0].dtype)
    end = 0
    for array in arrays:
        stacked[end : end + len(array)] = array
        end += len(array)
    if end < size:
        stacked[end:] = stacked[0]
    return stacked


def split(outputs: Tensors, row_counts: Sequence[int], size: int) -> list[Tensors]:
    """Undo merge: give each request its own rows and drop the padding.

    Raises RowsMixed where an output has not a row for each.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != size:
            raise RowsMixed(f"output '{name}' has shape {list(array.shape)} for {size} rows")
    parts = []
    start = 0
    for rows in row_counts:
        parts.append({name: array[start : start + rows] for name, array in outputs.items()})
        start += rows
    return parts


def join(outputs: Sequence[Tensors]) -> Tensors:
    """Undo chunks: put the outputs for the pieces of one request together.

    Raises RowsMixed where pieces differ in more than their rows.
    """
    if len(outputs) == 1:
        return outputs[0]
    return {name: _joined(name, [piece[name] for piece in outputs]) for name in outputs[0]}


def _joined(name: str, arrays: Sequence[Array]) -> Array:
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        one, other = sorted(shapes, key=str)[:2]
        raise RowsMixed(
            f"output '{name}' has rows of shape {list(one)} in one batch, {list(other)} in another"
        )
    return np.concatenate(arrays)
