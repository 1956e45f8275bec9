"""A JSON body's one large array of floats, read without making an object of each number.

What orjson makes of an image, lists of numbers, costs more than decoding all else of its request.
simdjson copies the numbers into a buffer in one go, and tells neither how they were nested nor
whether regularly; so the body's brackets and commas are compared with those of the shape that the
first elements show. Called by both protocols before `parse_object`, which reads whatever is not
exactly what is read here, and says what is wrong with it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import simdjson

from serve.types import Array

# Below this size orjson is as quick.
_LEAST_BYTES = 512
_MAX_DIMENSIONS = 32  # as in tensors
_KEPT_ELEMENTS = 100_000  # of a shape whose brackets are kept, for the next request

# All that numbers and the space around them are made of.
_NUMBERS = b"0123456789+-.eE \t\n\r"


def parse_with_floats(
    body: bytes, path: Sequence[str | int], datatypes: frozenset[str] | None = None
) -> dict[str, Any] | None:
    """Return a body's JSON object with one float64 array in it, at a path of keys and indices.

    Where `datatypes` are given, the object that holds the array must name one of them under the key
    `datatype`. Returns None for a body that is anything else, valid or not.
    """
    if len(body) < _LEAST_BYTES or b"\\" in body:  # keys are looked for as they are written
        return None
    try:
        document: Any = simdjson.Parser().parse(body)
        holder = document
        for key in path[:-1]:
            if isinstance(holder, simdjson.Array) and len(holder) != 1:
                return None
            holder = holder[key]
        if datatypes is not None and holder["datatype"] not in datatypes:
            return None
        floats = _floats(holder[path[-1]], body, str(path[-1]))
        return None if floats is None else _object(document, path, floats)
    except (RuntimeError, ValueError, TypeError, LookupError):  # simdjson's, for other documents
        return None


def _floats(array: Any, body: bytes, key: str) -> Array | None:
    """Return the float64 array of regularly nested numbers, None for what is none."""
    shape = _shape_of_first(array)
    count = math.prod(shape)
    if not shape or not 0 < count <= len(body) or len(shape) > _MAX_DIMENSIONS:
        return None
    structure = body.translate(None, _NUMBERS)
    name = b'"%s":' % key.encode().translate(None, _NUMBERS)
    expected = (_kept_brackets if count <= _KEPT_ELEMENTS else _brackets)(shape)
    if structure.count(name) != 1 or name + expected not in structure:
        return None
    numbers = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
    return numbers.reshape(shape) if numbers.size == count else None


def _shape_of_first(array: Any) -> tuple[int, ...]:
    """Return the lengths of an array, of its first element, of the first element of that..."""
    shape = []
    while isinstance(array, simdjson.Array):
        shape.append(len(array))
        array = array[0] if len(array) else None
    return tuple(shape)


def _brackets(shape: tuple[int, ...]) -> bytes:
    """Return the JSON of an array of a shape without its numbers."""
    text = b""
    for size in reversed(shape):
        text = b"[%s]" % b",".join([text] * size)
    return text


_kept_brackets = lru_cache(maxsize=16)(_brackets)


def _object(value: Any, path: Sequence[str | int], floats: Array) -> Any:
    """Return what simdjson has parsed as Python has it, with an array at a path."""
    if not path:
        return floats
    if isinstance(value, simdjson.Array):
        return [_object(value[0], path[1:], floats)]
    keys = list(value.keys())
    if len(set(keys)) < len(keys):  # of which orjson takes the last, simdjson the first
        raise KeyError("a key is given twice")
    return {
        key: _object(value[key], path[1:], floats) if key == path[0] else _plain(value[key])
        for key in keys
    }


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value
