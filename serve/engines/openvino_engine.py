"""Engines of OpenVINO, on files in its own format (IR) that selection made of a version.

They are imported where a version was found to be best computed so; TensorFlow is not.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import openvino

from serve.engines.engine import EngineName, EngineOptions
from serve.engines.function_engine import FunctionEngine, Infer
from serve.errors import InferenceFailed, RepositoryError
from serve.types import Signature, Tensors

ENDING = ".xml"
# One for as long as the process lives. Each gives the thread that first compiles with it a stack
# for signals, which goes with it: where another thread ended it, the next signal ended the process.
_CORE = openvino.Core()


class OpenVinoEngine(FunctionEngine):
    """Runs compiled models of OpenVINO, one a signature."""

    name: EngineName = "openvino"  # its C++ objects go with the last reference, at once


def version() -> str:
    """Return the release of the library."""
    return str(openvino.__version__).partition("-")[0]


def convert(saved_model: Path, target: Path) -> None:
    """Write a SavedModel's `serving_default` as IR, with every number as precise as it is.

    Raises RuntimeError, as OpenVINO does, for what it cannot read.
    """
    model = _CORE.read_model(str(saved_model))
    openvino.save_model(model, str(target), compress_to_fp16=False)


def open_function(file: Path, signature: Signature, options: EngineOptions) -> Infer:
    """Return the function of a signature. Raises RepositoryError if the file does not fit it."""
    try:
        model = _CORE.read_model(str(file))
        compiled = _CORE.compile_model(model, "CPU", _properties(options))
    except RuntimeError as err:
        raise RepositoryError(f"{file}: OpenVINO cannot load it: {_first_line(err)}") from err
    inputs = _positions(file, "input", compiled.inputs, [s.name for s in signature.inputs])
    outputs = _positions(file, "output", compiled.outputs, [s.name for s in signature.outputs])
    return _caller(compiled, inputs, outputs)


def _properties(options: EngineOptions) -> Mapping[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.num_threads,
        # Where the CPU can it would compute in bfloat16, which has other numbers.
        "INFERENCE_PRECISION_HINT": "f32",
        # Replicas that share a machine would all be pinned to its first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _positions(file: Path, word: str, ports: Any, names: list[str]) -> dict[str, int]:
    found = {}
    for name in names:
        places = [index for index, port in enumerate(ports) if name in port.names]
        if len(places) != 1:
            raise RepositoryError(f"{file}: OpenVINO knows no {word} '{name}' in it")
        found[name] = places[0]
    if word == "input" and len(ports) != len(names):
        raise RepositoryError(f"{file}: OpenVINO wants {len(ports)} inputs, not {len(names)}")
    return found


def _caller(compiled: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Infer:
    request = compiled.create_infer_request()
    call: Callable[..., Any] = request.infer

    def infer(tensors: Tensors) -> Tensors:
        try:
            # What comes is contiguous for the call and is not kept; what is returned is copied.
            got = call({inputs[name]: array for name, array in tensors.items()}, share_inputs=True)
            return {name: got[place] for name, place in outputs.items()}
        except RuntimeError as err:
            raise InferenceFailed(
                f"OpenVINO raised while computing: {_first_line(err)}; the replica's log has more"
            ) from err

    return infer


def _first_line(err: BaseException) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return " ".join(lines)[:300] or type(err).__name__
