"""Engines of ONNX Runtime, on `.onnx` files: a version's own, or one that selection made of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from serve.datatypes import DATATYPES
from serve.engines.cards import visible_cards
from serve.engines.engine import EngineName, EngineOptions
from serve.engines.function_engine import FunctionEngine, Infer, TriedFunction
from serve.engines.trial import Trial
from serve.errors import InferenceFailed, InvalidRequest, RepositoryError
from serve.types import Array, Signature, Tensors, TensorSpec

ENDING = ".onnx"
SIGNATURE = "serving_default"  # the one that an .onnx file has

# onnxruntime.capi.onnxruntime_pybind11_state: what a session says its tensors are.
_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxRuntimeEngine(FunctionEngine):
    """Runs sessions of ONNX Runtime, one a signature."""

    name: EngineName = "onnxruntime"


def version() -> str:
    """Return the release of the library."""
    return str(onnxruntime.__version__)


def load_onnx_model(file: Path, options: EngineOptions) -> OnnxRuntimeEngine:
    """Load a version that is an `.onnx` file. Raises RepositoryError."""
    if options.signature not in (None, SIGNATURE):
        raise RepositoryError(
            f"{file}: an ONNX file has the one signature {SIGNATURE}, not '{options.signature}'"
        )
    session = _session(file, options)
    inputs = _specs(file, "input", session.get_inputs())
    outputs = _specs(file, "output", session.get_outputs())
    signature = Signature(SIGNATURE, inputs, outputs, batched=False)  # until it is earned
    infer = _caller(session, signature)
    tried = {SIGNATURE: TriedFunction(signature, infer, Trial(infer))}
    return OnnxRuntimeEngine("onnxruntime_onnx", tried, SIGNATURE)


def open_function(file: Path, signature: Signature, options: EngineOptions) -> Infer:
    """Return the function of a signature. Raises RepositoryError if the file does not fit it."""
    session = _session(file, options)
    for word, specs, found in (
        ("input", signature.inputs, session.get_inputs()),
        ("output", signature.outputs, session.get_outputs()),
    ):
        missing = {spec.name for spec in specs} ^ {each.name for each in found}
        if missing and not (word == "output" and {s.name for s in specs} < {f.name for f in found}):
            raise RepositoryError(
                f"{file}: ONNX Runtime knows other {word}s: {', '.join(sorted(missing))}"
            )
    return _caller(session, signature)


def _session(file: Path, options: EngineOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.num_threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3  # errors; what it warns of is nothing that anybody can mend
    # Threads of its own would turn in circles between two requests, on cores that others need.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            str(file), settings, providers=_providers(options.num_gpus)
        )
    except Exception as err:  # its exceptions have no class in common
        raise RepositoryError(f"{file}: ONNX Runtime cannot load it: {_words(err)}") from err


def _providers(num_gpus: float) -> list[Any]:
    cpu = "CPUExecutionProvider"
    if not num_gpus or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return [cpu]
    cuda: dict[str, Any] = {"use_tf32": 0}
    if num_gpus < 1:
        cuda["gpu_mem_limit"] = int(visible_cards()[0].total_bytes * num_gpus)
    return [("CUDAExecutionProvider", cuda), cpu]


def _specs(file: Path, word: str, found: Sequence[Any]) -> tuple[TensorSpec, ...]:
    specs = []
    for each in found:
        if each.type not in _DATATYPES:
            raise RepositoryError(
                f"{file}: {word} '{each.name}' is {each.type}, which the protocols do not have"
            )
        shape = tuple(size if isinstance(size, int) and size > 0 else -1 for size in each.shape)
        specs.append(TensorSpec(each.name, _DATATYPES[each.type], shape))
    return tuple(specs)


def _caller(session: Any, signature: Signature) -> Infer:
    names = [spec.name for spec in signature.outputs]
    has_texts = any(spec.datatype == "BYTES" for spec in (*signature.inputs, *signature.outputs))
    run = session.run

    def infer(tensors: Tensors) -> Tensors:
        given = _texts(tensors) if has_texts else tensors
        try:
            got = run(names, given)
        except Exception as err:  # its exceptions have no class in common
            if type(err).__name__ == "InvalidArgument":
                raise InvalidRequest(f"the model refused these inputs: {_words(err)}") from err
            raise InferenceFailed(
                f"ONNX Runtime raised {type(err).__name__} while computing signature "
                f"'{signature.name}': {_words(err)}"
            ) from err
        outputs: Mapping[str, Array] = dict(zip(names, got, strict=True))
        return _bytes(outputs) if has_texts else dict(outputs)

    return infer


def _texts(tensors: Tensors) -> Tensors:
    """Return BYTES as the text that ONNX has instead. Raises InvalidRequest if it is none."""
    return {
        name: _each(array, _decoded) if array.dtype.hasobject else array
        for name, array in tensors.items()
    }


def _bytes(outputs: Mapping[str, Array]) -> Tensors:
    return {
        name: _each(array, lambda text: str(text).encode()) if array.dtype.kind in "OU" else array
        for name, array in outputs.items()
    }


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as err:
        raise InvalidRequest(f"the model takes texts in UTF-8, {value[:20]!r} is none") from err


def _each(array: Array, change: Any) -> Array:
    changed = array.astype(DATATYPES["BYTES"].numpy)
    flat = changed.reshape(-1)
    flat[:] = [change(value) for value in flat]
    return changed


def _words(err: BaseException) -> str:
    text = " ".join(str(err).split())
    return text.rpartition(" : ")[2][:300] or type(err).__name__
