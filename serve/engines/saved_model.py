"""SavedModels: every signature that the protocols can express.

Called by loading. A SavedModel's own function is called with tensors by name; it is a concrete
function, which never traces again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2

from serve import datatypes
from serve.engines.tensorflow_engine import CompiledFunction, TensorFlowEngine
from serve.errors import RepositoryError
from serve.types import Signature, TensorSpec

_PREFERRED = ("serving_default", "serve")
_INIT_OP = "__saved_model_init_op"


def load_saved_model(path: Path) -> TensorFlowEngine:
    """Load a SavedModel folder. Raises RepositoryError."""
    loaded = _load(path)
    functions = [
        compiled
        for name, function in loaded.signatures.items()
        if name != _INIT_OP and (compiled := _compiled(name, function)) is not None
    ]
    if not functions:
        raise RepositoryError(
            f"{path}: none of its signatures ({', '.join(loaded.signatures) or 'it has none'}) can "
            "be served; export the model with a signature of plain tensors"
        )
    names = [compiled.signature.name for compiled in functions]
    default = next((name for name in _PREFERRED if name in names), names[0])
    return TensorFlowEngine("tensorflow_savedmodel", functions, default, owner=loaded)


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


def _compiled(name: str, function: Any) -> CompiledFunction | None:
    """Return a signature's function, None if a datatype has no word in the protocols."""
    # A SavedModel keeps its tensors in maps without an order; by name it is the same at each load.
    try:
        inputs = _specs(function.structured_input_signature[1])
        outputs = _specs(function.structured_outputs)
    except KeyError:
        return None
    signature = Signature(name, inputs, outputs, is_batched(inputs, outputs))
    return CompiledFunction(signature, lambda tensors: function(**tensors), function.variables)


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, datatype_of(spec.dtype), shape_of(spec.shape))
        for name, spec in sorted(tensors.items())
    )


def datatype_of(dtype: Any) -> str:
    """Return the protocol's name of a TensorFlow dtype. Raises KeyError if there is none."""
    enum = types_pb2.DataType.Name(tf.as_dtype(dtype).as_datatype_enum)
    return datatypes.from_tensorflow(enum).name


def shape_of(shape: Any) -> tuple[int, ...] | None:
    """Return a TensorFlow shape with -1 for unknown sizes, None for an unknown rank."""
    if shape.rank is None:
        return None
    return tuple(-1 if size is None else int(size) for size in shape.as_list())


def is_batched(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> bool:
    """Tell whether dimension 0 of every input and output is an unknown batch dimension."""
    return bool(inputs) and all(
        spec.shape is not None and spec.shape[:1] == (-1,) for spec in (*inputs, *outputs)
    )
