"""The libraries that may compute a version in place of its own, and what each of them needs.

Each is imported where it is used: a replica has the one that computes its model in it, no other.
"""

import importlib.util
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from serve.engines.engine import EngineOptions, Library
from serve.engines.function_engine import FunctionEngine, Infer, TriedFunction
from serve.engines.trial import Trial
from serve.errors import RepositoryError
from serve.types import Signature

ENDINGS: Mapping[Library, str] = {"openvino": ".xml", "onnxruntime": ".onnx"}

# The version of ONNX's operations that is written: one that all of TensorFlow's can be said in.
_OPSET = "18"

# What computes ONNX on a machine with NVIDIA's cards is another distribution of the same package.
_DISTRIBUTIONS: Mapping[Library, tuple[str, ...]] = {
    "tensorflow": ("tensorflow",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime"),
}


def release(library: Library) -> str:
    """Return the release of a library that is installed, "" if it is not; imports nothing."""
    return _installed(library)[1]


def why_not_here(library: Library, num_gpus: float) -> str:
    """Return why a library cannot be tried on this machine, empty if it can."""
    if not release(library):
        return "it is not installed; pip install 'strata-serve[engines]'"
    if library == "openvino" and num_gpus:
        return "it computes on processors, not on NVIDIA's cards"
    if library == "onnxruntime" and num_gpus and "gpu" not in _installed(library)[0]:
        return "its build for cards is not installed; pip install onnxruntime-gpu in its place"
    return ""


def why_not_convertible(library: Library, native: Library) -> str:
    """Return why no file of a library can be made of another one's version, empty if it can."""
    if library == "onnxruntime" and native == "tensorflow" and not _has("tf2onnx"):
        return "tf2onnx is not installed; pip install 'strata-serve[engines]'"
    return ""


def conversion(library: Library, source: Path, target: Path) -> list[str]:
    """Return the command that makes a library's file of a SavedModel folder or an `.onnx` file."""
    if library == "openvino":
        return [sys.executable, "-m", "serve.selection.conversion", str(source), str(target)]
    return [
        *(sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(source)),
        *("--output", str(target), "--opset", _OPSET),
    ]


def open_engine(
    library: Library,
    files: Mapping[str, Path],
    signatures: Mapping[str, Signature],
    default_signature: str,
    platform: str,
    options: EngineOptions,
) -> FunctionEngine:
    """Return an engine of a library on its files, by signature. Raises RepositoryError."""
    tried = {}
    for name, signature in signatures.items():
        infer = _open(library, files[name], signature, options)
        tried[name] = TriedFunction(signature, infer, Trial(infer))
    return _kind(library)(platform, tried, default_signature)


def _open(library: Library, file: Path, signature: Signature, options: EngineOptions) -> Infer:
    if library == "openvino":
        from serve.engines import openvino_engine

        return openvino_engine.open_function(file, signature, options)
    if library == "onnxruntime":
        from serve.engines import onnxruntime_engine

        return onnxruntime_engine.open_function(file, signature, options)
    raise RepositoryError(f"{library} loads versions as they are, not files made of them")


def _kind(library: Library) -> type[FunctionEngine]:
    if library == "openvino":
        from serve.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine
    from serve.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine


def _installed(library: Library) -> tuple[str, str]:
    """Return the distribution of a library that is installed and its release, or two times ""."""
    for distribution in _DISTRIBUTIONS[library]:
        try:
            return distribution, str(metadata.version(distribution))
        except metadata.PackageNotFoundError:
            continue
    return "", ""


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
