"""Keras models, `.keras` and `.h5`: one function over the model's call, compiled once.

Called by loading. `model.predict` is never used: it builds a data pipeline a call, and a request
would wait for that 50 times longer than for the model.
"""

import re
from pathlib import Path
from typing import Any

import tensorflow as tf

from serve.engines.code_in_files import may_run_code
from serve.engines.direct_call import direct_call
from serve.engines.engine import EngineOptions
from serve.engines.keras_archives import require_contained
from serve.engines.saved_model import datatype_of, shape_of, why_no_tensor
from serve.engines.state import state_ops
from serve.engines.tensorflow_engine import CompiledFunction, TensorFlowEngine
from serve.errors import RepositoryError
from serve.types import Signature, TensorSpec

SIGNATURE = "serving_default"
_MISSING_CLASS = re.compile(r"Could not locate class '[^']+'")
_COUNTED_NAME = re.compile(r"(input_layer|input)_\d+")


def load_keras_model(path: Path, options: EngineOptions) -> TensorFlowEngine:
    """Load a `.keras` or `.h5` file. Raises RepositoryError."""
    require_contained(path)
    model = _load(path, may_run_code=may_run_code(path, options))
    if not getattr(model, "inputs", None):
        raise RepositoryError(
            f"{path}: the model does not say what its inputs are; call it once before saving, or "
            "export it as a SavedModel"
        )
    for name, tensor in _named_inputs(model):
        _require_tensor(path, "input", name, tensor)
    inputs = [_spec(name, tensor) for name, tensor in _named_inputs(model)]
    function = _compile(model, inputs)
    try:
        concrete = function.get_concrete_function()
    except Exception as err:  # whatever the layers of other people raise
        raise _unloadable(path, err) from err
    for name, tensor in concrete.structured_outputs.items():
        _require_tensor(path, "output", name, tensor)
    outputs = tuple(
        TensorSpec(name, datatype_of(tensor.dtype), shape_of(tensor.shape))
        for name, tensor in concrete.structured_outputs.items()
    )
    specs = tuple(inputs)
    signature = Signature(SIGNATURE, specs, outputs, batched=False)  # until it is earned
    compiled = CompiledFunction(
        signature,
        direct_call(concrete, [spec.name for spec in specs], by_position=True),
        function,
        concrete.variables,
        state_ops(concrete),
    )
    count = function.experimental_get_tracing_count
    return TensorFlowEngine("keras", [compiled], SIGNATURE, count, owner=model)


def _require_tensor(path: Path, word: str, name: str, tensor: Any) -> None:
    """Raise RepositoryError unless the protocols can express an input or output."""
    for kind in ("sparse", "ragged"):
        if getattr(tensor, kind, False):
            raise RepositoryError(
                f"{path}: {word} '{name}' is {kind}, which the protocols cannot express; build the "
                "model with a dense one"
            )
    reason = why_no_tensor(tensor)
    if reason is not None:
        raise RepositoryError(f"{path}: {word} '{name}' is {reason}")


def _load(path: Path, *, may_run_code: bool) -> Any:
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=not may_run_code)
    except Exception as err:  # Keras raises many kinds for a file it cannot read
        if path.suffix == ".keras":
            raise _unloadable(path, err) from err
        return _load_legacy(path, err)


def _load_legacy(path: Path, first: Exception) -> Any:
    """Load an old `.h5` with Keras 2, which reads some that Keras 3 does not.

    It has no safe mode for `.h5`: what would run code was refused before (code_in_files).
    """
    import tf_keras

    try:
        return tf_keras.models.load_model(path, compile=False)
    except Exception as err:  # as above; the first error is about the Keras of today
        raise _unloadable(path, first) from err


def _unloadable(path: Path, err: Exception) -> RepositoryError:
    text = " ".join(str(err).split()) or type(err).__name__
    found = _MISSING_CLASS.search(text)  # Keras says it at the end of a long story
    reason = found[0] if found else text
    return RepositoryError(
        f"{path}: cannot be loaded by Keras: {reason[:300]}; "
        "export it as a SavedModel with the Keras that wrote it"
    )


def _named_inputs(model: Any) -> list[tuple[str, Any]]:
    tensors = list(model.inputs)
    names = [tensor.name.split(":")[0] for tensor in tensors]
    if len(names) == 1:  # Keras numbers unnamed inputs per process, a served name must not change
        names = [_COUNTED_NAME.sub(r"\1", names[0])]
    return list(zip(names, tensors, strict=True))


def _spec(name: str, tensor: Any) -> TensorSpec:
    return TensorSpec(name, datatype_of(tensor.dtype), shape_of(tf.TensorShape(tensor.shape)))


def _compile(model: Any, inputs: list[TensorSpec]) -> Any:
    wanted = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=spec.name)
        for spec, tensor in zip(inputs, model.inputs, strict=True)
    ]

    def call(*tensors: Any) -> dict[str, Any]:
        return _named_outputs(model, model(_packed(model, tensors), training=False))

    return tf.function(call, input_signature=wanted)


def _packed(model: Any, tensors: tuple[Any, ...]) -> Any:
    """Return the inputs in the structure that the model was built with."""
    structure = getattr(model, "_inputs_struct", None)
    if structure is None:
        return tensors[0] if len(tensors) == 1 else list(tensors)
    return tf.nest.pack_sequence_as(structure, tensors)


def _named_outputs(model: Any, outputs: Any) -> dict[str, Any]:
    if isinstance(outputs, dict):
        return _flat(outputs)
    flat = tf.nest.flatten(outputs)
    names = list(getattr(model, "output_names", None) or ())
    if not names and len(flat) == 1 and getattr(model, "layers", None):
        names = [model.layers[-1].name]
    if len(names) != len(flat) or len(set(names)) != len(names):
        names = [f"output_{index}" for index in range(len(flat))]
    return dict(zip(names, flat, strict=True))


def _flat(outputs: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested outputs by one name each: `aux_0` for the first in the list `aux`."""
    flat: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}_")
        elif isinstance(value, list | tuple):
            flat |= _flat({str(i): each for i, each in enumerate(value)}, f"{prefix}{name}_")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
