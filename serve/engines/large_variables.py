"""Variables of a large SavedModel, read into memory of their own.

TensorFlow reads variables into its allocator's memory, which is never given back: a replica that
changed once from one version to another would keep the room of two for good. So those of a version
whose files have a manifest are read here: every file once, from its first byte to its last, so that
its hash is of the very bytes that are served, into pages that go back to the system with the
variable. The files themselves are not mapped: whoever writes over one would change what is
computed, or end the process. Called by saved_model; a SavedModel that keeps more than plain
variables in its checkpoint, writes to them or gathers from them is left to TensorFlow.
"""

import hashlib
import logging
import mmap
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from serve.engines.state import functions_of, state_ops
from serve.repository import hashes
from serve.repository.manifest import LARGE_BYTES
from serve.repository.progress import tell
from serve.repository.saved_model_files import Place, tensor_places

log = logging.getLogger("ray.serve")

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
_CHUNK_BYTES = 4 * 2**20
# Types whose memory TensorFlow can be handed, and as what: DLPack has no name for some.
_SHARED = {
    **dict.fromkeys(("float16", "float32", "float64")),
    **dict.fromkeys(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "bfloat16": np.uint16,
}
# Operations that have TensorFlow copy a variable first whose memory is not its own.
_COPIES = re.compile(r"ResourceGather|ResourceStridedSlice")
_OWN_BYTES = 2**20  # smaller ones go into TensorFlow's memory, which is used again


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The files of variables: where each tensor is, and the objects that they belong to."""

    folder: Path
    places: Mapping[str, Place]
    graph: TrackableObjectGraph

    @property
    def bytes(self) -> int:
        return sum(place.bytes for place in self.places.values())


def load_large(path: Path) -> Any:
    """Return a SavedModel with its variables in memory of their own, None if it is not for that.

    It is for large ones of TensorFlow 2 that keep nothing but variables, and read those whole.
    """
    try:
        checkpoint = _checkpoint(path)
        if checkpoint is None:
            return None
        options = tf.saved_model.LoadOptions(experimental_skip_checkpoint=True)
        loaded = tf.saved_model.load(str(path), options=options)
        variables = _variables(loaded, checkpoint)
        if variables is None or any(map(_copies, loaded.signatures.values())):
            return None
        _restore(variables, checkpoint)
        return loaded if _is_whole(loaded) else None
    except Exception as err:  # TensorFlow's own way says what is wrong, if anything is
        log.info("%s: its variables are read by TensorFlow: %s", path, err)
        return None


def _checkpoint(path: Path) -> _Checkpoint | None:
    folder = path / "variables"
    index = folder / "variables.index"
    if sys.platform != "linux" or sys.byteorder != "little" or not index.is_file():
        return None
    found = tensor_places(index.read_bytes())
    if any(place.is_sliced for place in found.values()):
        return None
    places = {key.decode(): place for key, place in found.items()}
    if places.pop(_GRAPH, None) is None:
        return None
    if sum(place.bytes for place in places.values()) < LARGE_BYTES:
        return None
    reader = tf.train.load_checkpoint(str(folder / "variables"))
    graph = TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
    return _Checkpoint(folder, places, graph)


def _variables(loaded: Any, checkpoint: _Checkpoint) -> dict[str, Any] | None:
    """Return the variable of every key of a checkpoint; None if one is no variable's, or is away.

    Objects are found as TensorFlow finds them: by the names that their owners have for them.
    """
    nodes = checkpoint.graph.nodes
    objects, queue = {0: loaded}, [0]
    while queue:
        number = queue.pop()
        for child in nodes[number].children:
            found = objects[number]._lookup_dependency(child.local_name)
            if found is not None and child.node_id not in objects:
                objects[child.node_id] = found
                queue.append(child.node_id)
    variables = {
        attribute.checkpoint_key: objects.get(number)
        for number, node in enumerate(nodes)
        for attribute in node.attributes
        if attribute.name == _VALUE
    }
    is_plain = variables.keys() == checkpoint.places.keys() and all(
        isinstance(variable, tf.Variable) and _fits(variable, checkpoint.places[key])
        for key, variable in variables.items()
    )
    return variables if is_plain else None


def _fits(variable: Any, place: Place) -> bool:
    count = variable.shape.num_elements()
    if count is None or variable.dtype in (tf.string, tf.resource, tf.variant):
        return False
    return bool(count * variable.dtype.size == place.bytes)


def _copies(function: Any) -> bool:
    """Tell whether a signature has TensorFlow copy its variables into its own memory after all."""
    names = {operation.type for operation in function.graph.get_operations()}
    for nested in functions_of(function.graph):
        names.update(node.op for node in nested.node_def)
    return bool(state_ops(function)) or any(map(_COPIES.match, names))


def _restore(variables: Mapping[str, Any], checkpoint: _Checkpoint) -> None:
    """Give the variables their values, and remember the hashes of the files that they were in."""
    done = 0
    for shard in sorted({place.shard for place in checkpoint.places.values()}):
        (file,) = checkpoint.folder.glob(f"variables.data-{shard:05d}-of-*")
        inside = [
            (place, variables[key])
            for key, place in checkpoint.places.items()
            if place.shard == shard
        ]
        inside.sort(key=lambda each: each[0].offset)
        with _Reading(file, done, checkpoint.bytes) as reading:
            for place, variable in inside:
                reading.skip_to(place.offset)
                array = _memory(place.bytes)
                reading.into(memoryview(array))
                variable.assign(_tensor(array, variable))
            reading.skip_to(reading.size)
        done = reading.done


class _Reading:
    """A file that is read from its first byte to its last, and hashed by the way."""

    def __init__(self, file: Path, done: int, total: int) -> None:
        self.done = done
        self._total = total
        self._file = file.open("rb", buffering=0)
        self._stamp = hashes.stamp_of(self._file.fileno())
        self._began = time.time()
        self._digest = hashlib.sha256()
        self._position = 0
        self.size = self._stamp[2]

    def __enter__(self) -> "_Reading":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            is_read = kind is None and self._position == self.size
            if is_read and hashes.stamp_of(self._file.fileno()) == self._stamp:
                hashes.remember(self._stamp, self._digest.hexdigest(), self._began)

    def into(self, target: memoryview) -> None:
        """Fill a buffer with what follows. Raises ValueError if the file ends before."""
        for start in range(0, len(target), _CHUNK_BYTES):
            piece = target[start : start + _CHUNK_BYTES]
            filled = 0
            while filled < len(piece):
                count = self._file.readinto(piece[filled:])
                if not count:
                    raise ValueError(f"'{self._file.name}' ends early")
                filled += count
            self._digest.update(piece)
            self._position += len(piece)
            self.done += len(piece)
            tell("reading", min(self.done, self._total), self._total)

    def skip_to(self, position: int) -> None:
        """Read what is between tensors. Raises ValueError where they share bytes."""
        if position < self._position:
            raise ValueError(f"'{self._file.name}' has tensors that share bytes")
        gap = position - self._position
        while gap:
            count = min(gap, _CHUNK_BYTES)
            self.into(memoryview(bytearray(count)))
            gap -= count


def _memory(size: int) -> Any:
    """Return an array of `size` bytes: large ones in pages of their own, which end with them."""
    if size < _OWN_BYTES:
        return np.empty(size, np.uint8)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, np.uint8)


def _tensor(array: Any, variable: Any) -> Any:
    """Return a variable's value, in the array's own memory where that is large."""
    dtype, shape = variable.dtype, variable.shape.as_list()
    typed = array.view(dtype.as_numpy_dtype).reshape(shape)
    if array.nbytes < _OWN_BYTES or dtype.name not in _SHARED:
        return tf.constant(typed, dtype)
    same_size = _SHARED[dtype.name]
    with tf.device("CPU"):
        if same_size is None:
            return tf.experimental.dlpack.from_dlpack(typed.__dlpack__())
        shared = tf.experimental.dlpack.from_dlpack(typed.view(same_size).__dlpack__())
        return tf.bitcast(shared, dtype)


def _is_whole(loaded: Any) -> bool:
    """Tell whether all variables that the signatures read have their values."""
    return all(
        bool(variable.is_initialized())
        for function in loaded.signatures.values()
        for variable in function.variables
    )
