"""What the files of a SavedModel say of themselves, by no library: lengths, and what is where.

An `.onnx` file is looked at, too.

A copy that is under way has all names early and all bytes late. The lengths are written in the
files: `saved_model.pb` is a protobuf, and `variables.index` is a table (LevelDB's format) that
says where in the data shards each tensor is. Called by completeness, and by engines that read it.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # compression type and CRC after each block
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_META_GRAPH = 2  # tensorflow/core/protobuf/saved_model.proto
_COLLECTION, _OBJECT_GRAPH = 4, 7  # tensorflow/core/protobuf/meta_graph.proto
_KEY_BYTES = 32  # a collection begins with its name: variables, trainable_variables
_ONNX_GRAPH = 7  # ModelProto in onnx.proto
_SHARD_ID, _OFFSET, _SIZE, _SLICES = 3, 4, 5, 7  # BundleEntryProto in tensor_bundle.proto


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes are: in which data shard, from where on, and how many."""

    shard: int
    offset: int
    bytes: int
    is_sliced: bool = False  # its parts have places of their own


def needs_variables(file: BinaryIO) -> bool:
    """Tell whether a saved_model.pb belongs to a `variables/`. Raises ValueError if cut off."""
    end = file.seek(0, io.SEEK_END)
    graphs = [
        (start, stop) for number, _, start, stop in _fields(file, 0, end) if number == _META_GRAPH
    ]
    if not graphs:
        raise ValueError("no graph in it")
    return any(_graph_needs_variables(file, start, stop) for start, stop in graphs)


def require_onnx(file: BinaryIO) -> None:
    """Raise ValueError unless an `.onnx` file is one, and whole."""
    end = file.seek(0, io.SEEK_END)
    if not any(number == _ONNX_GRAPH for number, _, _, _ in _fields(file, 0, end)):
        raise ValueError("no graph in it")


def shard_bytes(index: bytes) -> dict[int, int]:
    """Return the least length of each data shard. Raises ValueError if the index is cut off."""
    lengths: dict[int, int] = {}
    for place in tensor_places(index).values():
        lengths[place.shard] = max(place.offset + place.bytes, lengths.get(place.shard, 0))
    return lengths


def tensor_places(index: bytes) -> dict[bytes, Place]:
    """Return where each tensor is, by its key. Raises ValueError if the index is cut off."""
    if len(index) < _FOOTER_BYTES or index[-8:] != _MAGIC:
        raise ValueError("no footer")
    footer = io.BytesIO(index[-_FOOTER_BYTES:])
    _varint(footer), _varint(footer)  # where the meta index is
    places: dict[bytes, Place] = {}
    for _, handle in _entries(index, _varint(footer), _varint(footer)):
        block = io.BytesIO(handle)
        for key, value in _entries(index, _varint(block), _varint(block)):
            if key:  # the empty key is the header
                places[key] = _place(value)
    return places


def _graph_needs_variables(file: BinaryIO, start: int, end: int) -> bool:
    """TensorFlow 2 always writes variables; TensorFlow 1 where it names a collection of them."""
    for number, _, begin, stop in _fields(file, start, end):
        if number == _OBJECT_GRAPH:
            return True
        if number == _COLLECTION:
            file.seek(begin)
            if b"variables" in file.read(min(stop - begin, _KEY_BYTES)):
                return True
    return False


def _place(entry: bytes) -> Place:
    fields = {n: value for n, value, _, _ in _fields(io.BytesIO(entry), 0, len(entry))}
    shard, offset, size = (fields.get(number, 0) for number in (_SHARD_ID, _OFFSET, _SIZE))
    return Place(shard, offset, size, is_sliced=_SLICES in fields)


def _entries(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a block; a key leaves out what it shares with the one before."""
    if offset + size + _TRAILER_BYTES > len(table):
        raise ValueError("a block is missing")
    if table[offset + size] != 0:
        return  # compressed, which TensorFlow does not write: nothing to compare with
    block = table[offset : offset + size]
    end = size - 4 * (1 + int.from_bytes(block[-4:], "little"))  # restart points follow
    stream, key = io.BytesIO(block), b""
    while stream.tell() < end:
        shared, fresh, length = _varint(stream), _varint(stream), _varint(stream)
        key = key[:shared] + stream.read(fresh)
        yield key, stream.read(length)


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, value (of a varint), start and end of every field of a protobuf message."""
    position = start
    while position < end:
        file.seek(position)
        number, wire = divmod(_varint(file), 8)
        value = _varint(file) if wire in (0, 2) else 0
        begin = file.tell()
        position = begin + {0: 0, 1: 8, 2: value, 5: 4}.get(wire, end)
        if position > end:
            raise ValueError("it ends within a field")
        yield number, value, begin, position


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)
        if not byte or shift > 63:
            raise ValueError("it ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
