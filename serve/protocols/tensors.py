"""Tensor data on the wire: raw bytes and JSON numbers to arrays and back.

Shared by the protocols. Raw layout: Open Inference Protocol, "Binary Tensor Data Extension":
little endian, row-major, BOOL one byte, BYTES elements each behind a 4-byte length.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from serve.datatypes import DATATYPES, Datatype
from serve.errors import InvalidRequest
from serve.types import Array

_MAX_DIMENSIONS = 32  # numpy holds 64; no model comes near
_NOT_IN_JSON = {"FP16", "BF16"}


def element_count(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape."""
    return math.prod(shape)


def check_shape(shape: Any, name: str) -> tuple[int, ...]:
    """Return a shape from JSON as a tuple of sizes. Raises InvalidRequest."""
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS
        or any(type(size) is not int or size < 0 for size in shape)
    ):
        raise InvalidRequest(
            f"tensor '{name}': shape must be a list of at most {_MAX_DIMENSIONS} sizes >= 0, "
            f"got {str(shape)[:100]}"
        )
    return tuple(shape)


def from_bytes(data: memoryview, datatype: Datatype, shape: tuple[int, ...], name: str) -> Array:
    """Return the array of raw data: a view of it, or a copy for BYTES. Raises InvalidRequest."""
    if datatype.itemsize is None:
        return _strings_from_bytes(data, shape, name)
    expected = element_count(shape) * datatype.itemsize
    if len(data) != expected:
        raise InvalidRequest(
            f"tensor '{name}' has {len(data)} bytes of data, {datatype.name} {list(shape)} "
            f"takes {expected}"
        )
    return np.frombuffer(data, datatype.numpy).reshape(shape)


def _strings_from_bytes(data: memoryview, shape: tuple[int, ...], name: str) -> Array:
    count = element_count(shape)
    if count * 4 > len(data):
        raise InvalidRequest(f"tensor '{name}': {len(data)} bytes cannot hold {count} strings")
    strings = np.empty(count, object)
    position = 0
    for index in range(count):
        end = position + 4
        length = int.from_bytes(data[position:end], "little")
        if end > len(data) or end + length > len(data):
            raise InvalidRequest(f"tensor '{name}': the data ends within string {index} of {count}")
        strings[index] = bytes(data[end : end + length])
        position = end + length
    if position != len(data):
        raise InvalidRequest(
            f"tensor '{name}': {len(data) - position} bytes follow its {count} strings"
        )
    return strings.reshape(shape)


def to_bytes(array: Array) -> bytes:
    """Return the raw data of an array, little endian and row-major."""
    if array.dtype.hasobject:
        return b"".join(
            struct.pack("<I", len(item)) + item for item in map(_as_bytes, array.ravel())
        )
    return np.ascontiguousarray(array).tobytes()


def _as_bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def from_json(data: Any, datatype: Datatype, shape: tuple[int, ...], name: str) -> Array:
    """Return the array of JSON data that is flat or nested like `shape`. Raises InvalidRequest."""
    array = as_array(data, datatype, name)
    if array.shape == shape:
        return array
    if array.ndim != 1 or array.size != element_count(shape):
        raise InvalidRequest(
            f"tensor '{name}': data of shape {list(array.shape)} is neither flat nor nested "
            f"for shape {list(shape)}, which has {element_count(shape)} elements"
        )
    return array.reshape(shape)


def as_array(data: Any, datatype: Datatype, name: str) -> Array:
    """Return the array of JSON data, in the shape that its nesting has. Raises InvalidRequest."""
    if datatype.name in _NOT_IN_JSON:
        raise InvalidRequest(
            f"receiving {datatype.name} data via JSON is not supported. Please use the binary "
            f"data format for input '{name}'"
        )
    if datatype.itemsize is None:
        return _strings_from_json(data, name)
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError, TypeError) as err:
        raise InvalidRequest(f"tensor '{name}': data is ragged or too deep") from err
    if datatype.name == "UINT64" and array.dtype.kind == "f":
        array = _whole_numbers(data, array)
    return _converted(array, datatype, name)


def _whole_numbers(data: Any, array: Array) -> Array:
    """Undo what numpy does to a list with integers below and above 2**63: it makes them floats."""
    exact = np.array(data, object)
    fits = all(type(item) is int and 0 <= item < 2**64 for item in exact.flat)
    return exact.astype(np.uint64) if fits else array


def _converted(array: Array, datatype: Datatype, name: str) -> Array:
    """Convert what numpy made of JSON to a datatype. Raises InvalidRequest if it does not fit."""
    kind = datatype.numpy.kind
    if array.size == 0:
        return array.astype(datatype.numpy)
    if kind == "b" and array.dtype.kind == "b":
        return array
    if kind == "f" and array.dtype.kind in "iuf":
        return _to_floats(array, datatype, name)
    if kind in "iu" and array.dtype.kind in "iu":
        limits = np.iinfo(datatype.numpy.name)
        if int(array.min()) >= limits.min and int(array.max()) <= limits.max:
            return array.astype(datatype.numpy)
    raise InvalidRequest(
        f"tensor '{name}': data has an element that is not of expected type: {datatype.name}"
    )


def _to_floats(array: Array, datatype: Datatype, name: str) -> Array:
    try:
        with np.errstate(over="raise"):
            return array.astype(datatype.numpy)
    except FloatingPointError as err:
        raise InvalidRequest(
            f"tensor '{name}': data has a number that is too large for {datatype.name}"
        ) from err


def _strings_from_json(data: Any, name: str) -> Array:
    shape, flat = _flatten(data, name)
    strings = np.empty(len(flat), object)
    for index, item in enumerate(flat):
        if isinstance(item, bytes):
            strings[index] = item
        elif isinstance(item, str):
            strings[index] = item.encode("utf-8", "surrogatepass")
        else:
            raise InvalidRequest(
                f"tensor '{name}': data has an element that is not of expected type: BYTES; "
                "send strings"
            )
    return strings.reshape(shape)


def _flatten(data: Any, name: str) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and the elements of nested lists. Raises InvalidRequest if ragged."""
    shape: list[int] = []
    level = [data]
    while level and isinstance(level[0], list):
        size = len(level[0])
        if any(not isinstance(item, list) or len(item) != size for item in level):
            raise InvalidRequest(f"tensor '{name}': data is ragged")
        shape.append(size)
        level = [element for item in level for element in item]
        if len(shape) > _MAX_DIMENSIONS:
            raise InvalidRequest(f"tensor '{name}': data is nested too deep")
    if any(isinstance(item, list) for item in level):
        raise InvalidRequest(f"tensor '{name}': data is ragged")
    return tuple(shape), level


def to_json(array: Array, name: str) -> Any:
    """Return what orjson writes for an array: itself if numeric, lists of text if BYTES.

    Raises InvalidRequest for what JSON cannot hold: FP16, BF16, bytes that are not UTF-8.
    """
    datatype = next(d for d in DATATYPES.values() if d.numpy == array.dtype)
    if datatype.name in _NOT_IN_JSON:
        raise InvalidRequest(
            f"sending {datatype.name} data via JSON is not supported. Please use the binary "
            f"data format for output '{name}'"
        )
    if not array.dtype.hasobject:
        return np.ascontiguousarray(array)
    try:
        return np.frompyfunc(lambda item: _as_bytes(item).decode(), 1, 1)(array).tolist()
    except UnicodeDecodeError as err:
        raise InvalidRequest(
            f"output '{name}' holds bytes that are not UTF-8; ask for binary data"
        ) from err
