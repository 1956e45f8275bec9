"""Tensor data on the wire: raw bytes and JSON numbers to arrays and back.

Shared by the protocols. Raw layout: Open Inference Protocol, "Binary Tensor Data Extension":
little endian, row-major, BOOL one byte, BYTES elements each behind a 4-byte length.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from serve.datatypes import Datatype, from_numpy
from serve.errors import InvalidRequest
from serve.protocols.json_documents import numbers
from serve.types import Array

_MAX_DIMENSIONS = 32  # numpy holds 64; no model comes near
# Whose numbers other servers and clients refuse as JSON too, in the same words.
NOT_IN_JSON = {"FP16", "BF16"}
# What JSON elements may be, by the kind of the numpy type that they become.
_JSON_TYPES: Mapping[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}


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
    """Return the array of raw data: a view of it, or a copy for BYTES.

    Raises InvalidRequest.
    """
    if datatype.itemsize is None:
        return _strings_from_bytes(data, shape, name)
    expected = element_count(shape) * datatype.itemsize
    if len(data) != expected:
        raise InvalidRequest(
            f"tensor '{name}' has {len(data)} bytes of data, {datatype.name} {list(shape)} "
            f"takes {expected}"
        )
    array = np.frombuffer(data, datatype.numpy).reshape(shape)
    if datatype.numpy.kind == "b" and (array.view(np.uint8) > 1).any():
        # Some clients write true as 255, and TensorFlow would compute with that.
        return np.not_equal(array.view(np.uint8), 0)
    return array


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
    if from_numpy(array.dtype).itemsize is None:
        return b"".join(
            struct.pack("<I", len(item)) + item for item in map(bytes_of, array.ravel())
        )
    return np.ascontiguousarray(array).tobytes()


def bytes_of(item: Any) -> bytes:
    """Return the bytes of an element of a BYTES tensor: what is no bytes is written as text."""
    return item if isinstance(item, bytes) else str(item).encode()


def as_bytes(item: Any) -> bytes | None:
    """Return the bytes of a string that JSON brought, None for what is none."""
    return item.encode() if isinstance(item, str) else None


def from_json(data: Any, datatype: Datatype, shape: tuple[int, ...], name: str) -> Array:
    """Return the array of JSON data that is flat or nested like `shape`. Raises InvalidRequest."""
    array = as_array(data, datatype, name)
    if array.shape == shape:
        return array
    is_flat = array.ndim == 1 and array.size == element_count(shape)
    if not is_flat and array.shape != visible_shape(shape):
        raise InvalidRequest(
            f"tensor '{name}': data of shape {list(array.shape)} is neither flat nor nested "
            f"for shape {list(shape)}, which has {element_count(shape)} elements"
        )
    return array.reshape(shape)


def visible_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the part of a shape that nested lists can show: it ends with the first size of 0."""
    return shape[: shape.index(0) + 1] if 0 in shape else shape


def as_array(data: Any, datatype: Datatype, name: str) -> Array:
    """Return the array of JSON data, in the shape that its nesting has. Raises InvalidRequest."""
    if datatype.name in NOT_IN_JSON:
        raise InvalidRequest(
            f"receiving {datatype.name} data via JSON is not supported. Please use the binary "
            f"data format for input '{name}'"
        )
    if datatype.itemsize is None:
        return as_strings(data, name)
    return as_numbers(data, datatype, name)


def as_numbers(data: Any, datatype: Datatype, name: str) -> Array:
    """Return the array of JSON numbers or booleans, half floats too. Raises InvalidRequest.

    Integers are no booleans, booleans no numbers, and null is neither. `data` is nested lists, or
    the float64 array that they were read as for a datatype of floats.
    """
    kind = datatype.numpy.kind
    if isinstance(data, np.ndarray):
        return _to_floats(data, datatype, name)
    shape, flat = _flatten(data, name)
    types = set(map(type, flat))
    if not types <= _JSON_TYPES.get(kind, _JSON_TYPES["f"]):
        raise _wrong_type(datatype, name)
    try:
        if kind in "biu":
            return np.array(flat, datatype.numpy).reshape(shape)
        return _to_floats(np.array(flat, np.float64), datatype, name).reshape(shape)
    except OverflowError as err:
        raise _wrong_type(datatype, name) from err


def _wrong_type(datatype: Datatype, name: str) -> InvalidRequest:
    return InvalidRequest(
        f"tensor '{name}': data has an element that is not of expected type: {datatype.name}"
    )


def _to_floats(numbers: Array, datatype: Datatype, name: str) -> Array:
    if numbers.dtype == datatype.numpy:
        return numbers
    with np.errstate(over="ignore"):
        floats = numbers.astype(datatype.numpy)
    is_finite = np.isfinite(floats)
    # For an image, finding no False among the bytes takes a quarter of the time of all().
    if b"\0" not in is_finite.tobytes() or (is_finite == np.isfinite(numbers)).all():
        return floats
    raise InvalidRequest(
        f"tensor '{name}': data has a number that is too large for {datatype.name}"
    )


def as_strings(data: Any, name: str, read: Callable[[Any], bytes | None] = as_bytes) -> Array:
    """Return the BYTES array of JSON strings. Raises InvalidRequest.

    `read` returns the bytes of one element, None for what is none.
    """
    shape, flat = _flatten(data, name)
    strings = np.empty(len(flat), object)
    for index, item in enumerate(flat):
        strings[index] = read(item)
        if strings[index] is None:
            raise InvalidRequest(
                f"tensor '{name}': data has an element that is not of expected type: BYTES; "
                "send strings"
            )
    return strings.reshape(shape)


def _flatten(data: Any, name: str) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and the elements of nested lists. Raises InvalidRequest if ragged.

    A level at a time: numpy, given numbers, looks at each list of the innermost level one by one.
    """
    shape: list[int] = []
    level = [data]
    while level and isinstance(level[0], list):
        if set(map(type, level)) != {list} or len(set(map(len, level))) > 1:
            raise InvalidRequest(f"tensor '{name}': data is ragged")
        if len(shape) == _MAX_DIMENSIONS:
            raise InvalidRequest(f"tensor '{name}': data is nested too deep")
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    if list in set(map(type, level)):
        raise InvalidRequest(f"tensor '{name}': data is ragged")
    return tuple(shape), level


def to_json(array: Array, name: str) -> Any:
    """Return what json_documents.dump writes for an array: numbers, or lists of text if BYTES.

    Raises InvalidRequest for what JSON cannot hold: FP16, BF16, bytes that are not UTF-8.
    """
    datatype = from_numpy(array.dtype)
    if datatype.name in NOT_IN_JSON:
        raise InvalidRequest(
            f"sending {datatype.name} data via JSON is not supported. Please use the binary "
            f"data format for output '{name}'"
        )
    if datatype.itemsize is not None:
        return numbers(array)
    try:
        return each(array, lambda item: bytes_of(item).decode())
    except UnicodeDecodeError as err:
        raise InvalidRequest(
            f"output '{name}' holds bytes that are not UTF-8; ask for binary data"
        ) from err


def in_decimals(array: Array) -> Array:
    """Return half floats as the float32 that they are, whose digits can be written; others as is.

    For V1, which has no binary form, and for people.
    """
    is_half = from_numpy(array.dtype).name in NOT_IN_JSON
    return array.astype(np.float32) if is_half else array


def each(strings: Array, write: Callable[[Any], Any]) -> Any:
    """Return nested lists of what `write` makes of each element; of rank 0 no list but that."""
    written = np.empty(strings.size, object)
    for index, item in enumerate(strings.ravel()):
        written[index] = write(item)
    return written.reshape(strings.shape).tolist()
