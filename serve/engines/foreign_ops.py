"""Ops that a SavedModel needs and this process lacks, found before TensorFlow loads it.

Called by loading. TensorFlow names the first such op alone, and not the package that brings it;
and Python functions of the process that exported a model (py_function) it misses only in a call.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from serve.errors import RepositoryError

_PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_MOST_NAMED = 5
# How the ops of a package begin, and the module whose import brings them; TF Text gave its first
# ops no prefix.
_PACKAGES = {
    "Addons>": "tensorflow_addons",
    "CaseFoldUTF8": "tensorflow_text",
    "ConstrainedSequence": "tensorflow_text",
    "Horovod": "horovod.tensorflow",
    "IO>": "tensorflow_io",
    "NormalizeUTF8": "tensorflow_text",
    "RegexSplitWithOffsets": "tensorflow_text",
    "RougeL": "tensorflow_text",
    "Sentencepiece": "tensorflow_text",
    "SimpleML": "tensorflow_decision_forests",
    "SplitMergeTokenize": "tensorflow_text",
    "TFRA>": "tensorflow_recommenders_addons",
    "TFText>": "tensorflow_text",
    "TokenizerFromLogits": "tensorflow_text",
    "UnicodeScriptTokenize": "tensorflow_text",
    "WhitespaceTokenize": "tensorflow_text",
    "WordpieceTokenize": "tensorflow_text",
}


def require_ops(path: Path) -> None:
    """Check that every op of a SavedModel's graph is there. Raises RepositoryError with names."""
    try:
        graphs = parse_saved_model(str(path)).meta_graphs
    except (OSError, ValueError):
        return  # no SavedModel at all; loading it says so in its own words
    for meta_graph in [g for g in graphs if "serve" in g.meta_info_def.tags] or graphs:
        graph = meta_graph.graph_def
        functions = {function.signature.name: function for function in graph.library.function}
        used = {node.op for node in _nodes(graph)} - functions.keys()
        missing = sorted(op for op in used if op_def_registry.get(op) is None)
        if missing:
            raise RepositoryError(f"{path}: {_missing(missing)}")
        called = {node.op: node.name for node in _reached(meta_graph, functions)}
        if _PYTHON & called.keys():
            op = min(_PYTHON & called.keys())
            raise RepositoryError(
                f"{path}: '{called[op]}' is a {op}: it calls a Python function of the process that "
                "exported the model (tf.py_function or tf.numpy_function), which is not in the "
                "model; export it again with that step written in TensorFlow's own ops, or left to "
                "the caller"
            )


def _missing(ops: list[str]) -> str:
    named = ", ".join(ops[:_MOST_NAMED]) + (", ..." if len(ops) > _MOST_NAMED else "")
    modules = sorted({module for op in ops if (module := _module(op))})
    what = f"it needs ops that are not in TensorFlow: {named}"
    if not modules:
        return (
            f"{what}; find the Python package that brings them, install it and have it imported: "
            "engine: {imports: [its_module]} at the model"
        )
    imports = ", ".join(modules)
    packages = " ".join(module.partition(".")[0].replace("_", "-") for module in modules)
    return (
        f"{what}, but in {imports}; install {packages} (in the image: "
        f"--build-arg EXTRA_PACKAGES='{packages}') and write engine: {{imports: [{imports}]}} at "
        "the model"
    )


def _module(op: str) -> str | None:
    return next((module for start, module in _PACKAGES.items() if op.startswith(start)), None)


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _reached(meta_graph: Any, functions: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that a call of any signature computes.

    A graph may hold others, of the training and its input pipeline.
    """
    by_name = {node.name: node for node in meta_graph.graph_def.node}
    names = [
        _node_name(tensor)
        for signature in meta_graph.signature_def.values()
        for info in signature.outputs.values()
        for tensor in _tensors(info)
    ]
    seen: set[str] = set()
    waiting: list[Any] = []
    while names:
        name = names.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        names += [_node_name(source) for source in by_name[name].input]
        waiting.append(by_name[name])
    yield from _with_functions(waiting, functions)


def _with_functions(nodes: Iterable[Any], functions: dict[str, Any]) -> Iterator[Any]:
    """Yield nodes, and those of the functions that they call, and so on."""
    waiting, seen = list(nodes), set[str]()
    while waiting:
        node = waiting.pop()
        yield node
        for name in {node.op, *_functions_named(node)} & functions.keys() - seen:
            seen.add(name)
            waiting += functions[name].node_def


def _functions_named(node: Any) -> Iterator[str]:
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (function.name for function in attribute.list.func)


def _tensors(info: Any) -> Iterator[str]:
    """Yield the names of the tensors that an output of a signature consists of."""
    sparse = info.coo_sparse
    yield from (info.name, sparse.values_tensor_name, sparse.indices_tensor_name)
    yield from (component.name for component in info.composite_tensor.components)


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
