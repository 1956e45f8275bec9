"""The statistics of a tensor: a few numbers a row, whose distributions are then compared.

Called by baseline when a version is published and by monitor while it serves, so that both sides
have the same numbers. Takes any datatype and shape, no rows and nothing but NaN included.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from serve.types import Array

# What is in a tensor's rows, in this order: many numbers, as of an image; a few that each mean
# something; the probabilities of classes; text; words of a small vocabulary.
Kind = Literal["summary", "features", "classes", "text", "categories"]
Values = npt.NDArray[np.floating[Any]]

_ASCII = bytes(range(128))
_MOST_BYTES = 4096  # of a text are read; pictures may travel as strings


def statistics(kind: Kind, array: Array) -> Mapping[str, Values]:
    """Return the values [rows] of each statistic by its name; none if rows have no elements.

    A value that cannot be computed is NaN. Text is measured in bytes, and words are hashed: what
    was in a row cannot be read from a statistic. A tensor of rank 0 is one row.
    """
    array = np.atleast_1d(array)
    rows, width = len(array), math.prod(array.shape[1:])
    if width == 0:
        return {}
    table = array.reshape(rows, width)
    if array.dtype.hasobject:
        texts = [_joined(row) for row in table]
        return _words(texts) if kind == "categories" else _texts(texts)
    with np.errstate(all="ignore"):  # what overflows becomes inf, which has a bin of its own
        numbers = _floats(table)
        if kind == "classes":
            return _classes(numbers)
        if kind == "features":
            return {str(index): numbers[:, index] for index in range(width)}
        return _summary(numbers)


def _floats(table: Array) -> Values:
    is_single = table.dtype.itemsize <= 4 and table.dtype.kind not in "iu"
    return table.astype(np.float32 if is_single else np.float64, copy=False)


def _summary(numbers: Values) -> Mapping[str, Values]:
    mean = numbers.mean(axis=1)
    away = numbers - mean[:, None]
    variance = np.einsum("ij,ij->i", away, away) / numbers.shape[1]
    return {"mean": mean, "deviation": np.sqrt(variance)}


def _classes(numbers: Values) -> Mapping[str, Values]:
    largest = numbers.max(axis=1)  # NaN where any of the row is
    best = np.where(np.isnan(largest), np.nan, numbers.argmax(axis=1))
    return {"class": best, "max_probability": largest}


def _texts(texts: Sequence[bytes]) -> Mapping[str, Values]:
    """Return the length in bytes, and the share outside ASCII, which tells scripts apart."""
    lengths = np.array([len(text) for text in texts], float)
    read = [text[:_MOST_BYTES] for text in texts]
    outside = np.array([len(text.translate(None, _ASCII)) / max(len(text), 1) for text in read])
    return {"length": lengths, "non_ascii": outside}


def _words(texts: Sequence[bytes]) -> Mapping[str, Values]:
    return {"word": np.array([zlib.crc32(text[:_MOST_BYTES]) for text in texts], float)}


def _joined(row: Array) -> bytes:
    return b"".join(item if isinstance(item, bytes) else str(item).encode() for item in row)
