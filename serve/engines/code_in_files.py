"""Keras files that would run code of their own: found and refused before any of it is loaded.

Called by keras_model. A Keras file describes its layers as JSON. Some descriptions hold a
marshalled Python function (Lambda), and Keras 2's loader imports whatever module and takes
whatever function of TensorFlow a description names, with no safe mode for `.h5`. So the
description is read here first, by JSON and h5py alone.
"""

import builtins
import hashlib
import json
import re
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import h5py

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError

# Classes of Keras whose description is, or points at, something that is run.
_CODE = {
    "Lambda": "is a Lambda, which holds a Python function",
    "__lambda__": "holds a Python function",
    "TorchModuleWrapper": "is a TorchModuleWrapper, which holds a pickled object",
    "TFSMLayer": "is a TFSMLayer, which loads another model from a path",
}
_KERAS = {"keras", "tf_keras", "keras_hub", "keras_cv", "keras_nlp"}
# Parts of Keras that read and write files, not layers of a model.
_NOT_MODELLING = {
    "applications", "callbacks", "config", "datasets", "distribution", "estimator", "export",
    "preprocessing", "saving", "utils", "visualization", "wrappers",
}  # fmt: skip
_LOADS = re.compile("load_|save_|deserialize|model_from_")
# Layers of Keras 2 that call a function of TensorFlow by its name, and the key that has it.
_BY_NAME = {"TFOpLambda": "function", "ClassMethod": "cls_symbol", "SlicingOpLambda": "function"}
# What such a layer may call: functions of tensors, and none that loads, writes or imports.
_V1 = r"(compat\.v1\.)?"
_OF_TENSORS = re.compile(
    rf"{_V1}(__operators__|audio|autodiff|bitwise|dtypes|experimental\.numpy|image|linalg|math|nest|nn"
    r"|ragged|random|sets|signal|sparse|strings|keras\.(activations|backend|losses|metrics|ops)"
    r"|RaggedTensor|SparseTensor)(\.\w+)+"
    rf"|{_V1}(debugging\.(assert|check)|io\.(decode|encode|parse)"
    r"|quantization\.(fake_quant|quantize|dequantize))\w*"
    rf"|{_V1}(?!load|py_func|numpy_function|function|import_|init_|rpc_|print|Print|\w*Reader)\w+"
)
# Python's functions that are Keras's, too.
_HARMLESS_BUILTINS = {"abs", "all", "any", "max", "min", "pow", "round", "sum"}


def may_run_code(path: Path, options: EngineOptions) -> bool:
    """Tell whether a Keras file brings code; if it does, its hash is among those allowed.

    Raises RepositoryError for a file that brings code and is not allowed to, naming the layer,
    and for one whose description cannot be read.
    """
    found = next(_code_in(_description(path), options.imports), None)
    if found is None:
        return False
    digest = _sha256(path)
    if digest in options.allowed_code:
        return True
    raise RepositoryError(
        f"{path}: {found}; loading it would run that code here, so nothing of it was loaded. "
        "Export the model as a SavedModel instead (model.export(folder)); or, if you trust who "
        f"made the file, allow this very file at its model: engine: {{allowed_code: ['{digest}']}}"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _description(path: Path) -> Any:
    """Return the JSON that describes the layers of a `.keras` or `.h5` file."""
    try:
        return json.loads(_keras(path) if path.suffix == ".keras" else _h5(path))
    except (OSError, KeyError, ValueError, RecursionError, zipfile.BadZipFile) as err:
        text = " ".join(str(err).split())
        raise RepositoryError(
            f"{path}: cannot be loaded by Keras: it has no readable description of a model: "
            f"{text[:200]}; export it as a SavedModel with the Keras that wrote it"
        ) from err


def _keras(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("config.json")


def _h5(path: Path) -> str | bytes:
    with h5py.File(path, "r") as file:
        config: str | bytes | None = file.attrs.get("model_config")
    if config is None:
        raise ValueError("it holds weights alone (no model_config); save the whole model")
    return config


def _code_in(description: Any, imports: Collection[str]) -> Iterator[str]:
    """Yield a sentence for everything in a description that is code or names some."""
    waiting: list[tuple[Any, str]] = [(description, "model")]  # a stack: files may nest deeply
    while waiting:
        value, owner = waiting.pop()
        if isinstance(value, list):
            waiting.extend((item, owner) for item in reversed(value))
        elif isinstance(value, dict):
            owner = _name(value) or owner
            reason = _reason(value, imports)
            if reason:
                yield f"layer '{owner}' {reason}"
            waiting.extend((item, owner) for item in reversed(value.values()))


def _name(value: dict[str, Any]) -> str | None:
    """Return the name of the layer that a dict describes, None if it describes none."""
    config = value.get("config")
    if not isinstance(value.get("class_name"), str) or not isinstance(config, dict):
        return None
    name = config.get("name", value.get("name"))
    return name if isinstance(name, str) else None


def _reason(value: dict[str, Any], imports: Collection[str]) -> str | None:
    """Say why the object that a dict describes is code, None if it is not."""
    if any(isinstance(key, str) and key.endswith("function_type") for key in value):
        return _CODE["Lambda"]
    kind = value.get("class_name")
    if not isinstance(kind, str):
        return None
    for name in (kind, value.get("registered_name")):
        plain = name.rpartition(">")[2].rpartition(".")[2] if isinstance(name, str) else ""
        if plain in _CODE:
            return _CODE[plain]
    config = value.get("config")
    if isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        return f"reads the file '{config['vocabulary']}' of this machine for its vocabulary"
    return _by_name(kind, config) or _by_module(value, kind, imports)


def _by_name(kind: str, config: Any) -> str | None:
    key = _BY_NAME.get(kind)
    symbol = config.get(key) if key and isinstance(config, dict) else None
    if symbol is None or _OF_TENSORS.fullmatch(str(symbol)):
        return None
    return f"calls TensorFlow's '{symbol}', which is no computation on tensors"


def _by_module(value: dict[str, Any], kind: str, imports: Collection[str]) -> str | None:
    module = value.get("module")
    if module is None:
        return None
    function = value.get("config") if kind == "function" else None
    named = f"'{function if isinstance(function, str) else kind}' of the module '{module}'"
    parts = str(module).split(".")
    if module == "builtins":
        harmless = function in _HARMLESS_BUILTINS or not hasattr(builtins, str(function or kind))
        return None if harmless else f"names {named}"
    if parts[0] in _KERAS:
        reads = _NOT_MODELLING & set(parts) or _LOADS.match(str(function or kind))
        return f"names {named}" if reads else None
    if any(str(module) == name or str(module).startswith(f"{name}.") for name in imports):
        return None
    return (
        f"names {named}, which is not Keras's (if it is yours: engine: {{imports: [{parts[0]}]}})"
    )
