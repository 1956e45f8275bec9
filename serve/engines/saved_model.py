"""SavedModels: every signature that the protocols can express.

Called by loading. A SavedModel's own function is called with tensors by name; it is a concrete
function, which never traces again.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2

from serve import datatypes
from serve.engines.direct_call import direct_call
from serve.engines.example_messages import example_kinds
from serve.engines.large_variables import load_large
from serve.engines.state import state_ops
from serve.engines.tensorflow_engine import CompiledFunction, TensorFlowEngine
from serve.errors import RepositoryError
from serve.types import Signature, TensorSpec

log = logging.getLogger("ray.serve")

_PREFERRED = ("serving_default", "serve")
_INIT_OP = "__saved_model_init_op"

# What is no tensor, and the way to make tensors of it.
_COMPOSITES = {
    "RaggedTensorSpec": "a RaggedTensor; return its flat_values and row_splits, or to_tensor()",
    "SparseTensorSpec": "a SparseTensor; use indices, values and dense_shape, or to_dense",
}


def load_saved_model(
    path: Path, wanted: str | None = None, *, has_manifest: bool = False
) -> TensorFlowEngine:
    """Load a SavedModel folder, with `wanted` as its default signature. Raises RepositoryError.

    Signatures that the protocols cannot express are left out, unless it is the default one.
    `has_manifest` says that hashes vouch for its files, which TensorFlow has checksums for, too.
    """
    loaded = (load_large(path) if has_manifest else None) or _load(path)
    functions: dict[str, CompiledFunction] = {}
    refused: dict[str, str] = {}
    for name in sorted(set(loaded.signatures) - {_INIT_OP}):
        function = loaded.signatures[name]
        reason = _why_not(function)
        if reason is None:
            functions[name] = _compiled(name, function)
        else:
            refused[name] = reason
            log.info("%s: signature '%s' cannot be served: %s", path, name, reason)
    default = _default(path, functions, refused, wanted)
    return TensorFlowEngine(
        "tensorflow_savedmodel", list(functions.values()), default, owner=loaded
    )


def _default(
    path: Path, functions: Mapping[str, object], refused: Mapping[str, str], wanted: str | None
) -> str:
    """Return the name of the default signature; the same for the same file at every load."""
    every = {*functions, *refused}
    if not every:
        raise RepositoryError(f"{path}: it has no signatures; export the model with one")
    only = next(iter(every)) if len(every) == 1 else None
    name = wanted or next((name for name in _PREFERRED if name in every), only)
    if name is not None and name in functions:
        return name
    others = f"(it has: {', '.join(sorted(functions)) or 'none that can be served'})"
    another = (
        f", or choose another one by `signature:` in the config of the model {others}"
        if functions
        else "; it has no other one that can be served"
    )
    if name is None:
        raise RepositoryError(
            f"{path}: none of its signatures is called serving_default; say which one answers, by "
            f"`signature:` in the config of the model or strata publish --signature {others}"
        )
    if name not in refused:
        raise RepositoryError(f"{path}: it has no signature '{name}' {others}")
    raise RepositoryError(
        f"{path}: its signature '{name}' cannot be served: {refused[name]}; export it that way"
        f"{another}"
    )


def _load(path: Path) -> Any:
    try:
        return tf.saved_model.load(str(path))
    except AttributeError as err:
        if "add_slot" not in str(err):
            raise _unloadable(path, err) from err
        return _load_with_optimizer(path)
    except Exception as err:  # TensorFlow raises many kinds for a file it cannot read
        raise _unloadable(path, err) from err


def _load_with_optimizer(path: Path) -> Any:
    """Load what Keras 2 saved with its optimizer: only tf_keras knows that optimizer's object."""
    import tf_keras  # noqa: F401

    try:
        return tf.saved_model.load(str(path))
    except Exception as err:  # as above
        raise _unloadable(path, err) from err


def _unloadable(path: Path, err: Exception) -> RepositoryError:
    reason = str(err).strip().splitlines()[0] if str(err).strip() else type(err).__name__
    return RepositoryError(
        f"{path}: cannot be loaded as a SavedModel: {reason[:300]}; export it again with the "
        "TensorFlow or Keras that wrote it"
    )


def _why_not(function: Any) -> str | None:
    """Return why the protocols cannot express a signature, None if they can."""
    tensors = {
        "input": function.structured_input_signature[1],
        "output": function.structured_outputs,
    }
    for word, specs in tensors.items():
        for name, spec in specs.items():
            reason = why_no_tensor(spec)
            if reason is not None:
                return f"{word} '{name}' is {reason}"
    return None


def why_no_tensor(spec: Any) -> str | None:
    """Return what a spec is that the protocols have no word for, None if they have one."""
    known = _COMPOSITES.get(type(spec).__name__)
    if known is not None:
        return known
    if not hasattr(spec, "dtype") or not hasattr(spec, "shape"):
        return f"{type(spec).__name__}, no tensor"
    try:
        datatype_of(spec.dtype)
    except KeyError:
        name = tf.as_dtype(spec.dtype).name
        way_out = "; use its real and imaginary parts" if name.startswith("complex") else ""
        return f"of type {name}, which the protocols do not have{way_out}"
    return None


def _compiled(name: str, function: Any) -> CompiledFunction:
    # A SavedModel keeps its tensors in maps without an order. By name it is the same at each load;
    # by the numbers in names it is the model's own where Keras counted: output_2, output_10.
    inputs = _specs(function.structured_input_signature[1])
    outputs = _specs(function.structured_outputs)
    signature = Signature(name, inputs, outputs, batched=False)  # until it is earned

    call = direct_call(function, [spec.name for spec in inputs])
    return CompiledFunction(
        signature, call, function, function.variables, state_ops(function), example_kinds(function)
    )


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, datatype_of(spec.dtype), shape_of(spec.shape))
        for name, spec in sorted(tensors.items(), key=lambda item: _counted(item[0]))
    )


def _counted(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names by the numbers in them as numbers."""
    parts = re.split("([0-9]+)", name)  # text and number in turn, so that keys can be compared
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def datatype_of(dtype: Any) -> str:
    """Return the protocol's name of a TensorFlow dtype. Raises KeyError if there is none."""
    enum = types_pb2.DataType.Name(tf.as_dtype(dtype).as_datatype_enum)
    return datatypes.from_tensorflow(enum).name


def shape_of(shape: Any) -> tuple[int, ...] | None:
    """Return a TensorFlow shape with -1 for unknown sizes, None for an unknown rank."""
    if shape.rank is None:
        return None
    return tuple(-1 if size is None else int(size) for size in shape.as_list())
