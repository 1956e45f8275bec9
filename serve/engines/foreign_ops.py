"""Ops that a SavedModel needs and must not have, found before TensorFlow loads it.

Called by loading. Of ops that this process lacks TensorFlow names the first alone, and not the
package that brings it; Python functions of the process that exported a model (py_function) it
misses only in a call. And a graph may read and write any file of the machine, at its load already.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from tensorflow.python.framework import op_def_registry
from tensorflow.python.saved_model.loader_impl import parse_saved_model

from serve.errors import RepositoryError
from serve.repository import hashes
from serve.repository.layout import SAVED_MODEL, is_inside

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


# Ops of input pipelines, checkpoints, debugging and other machines: files and networks.
_REACHING = re.compile(
    "(Experimental)?("
    "ReadFile|WriteFile|MatchingFiles|ImmutableConst|LoadAndRemapMatrix|GenerateVocabRemapping"
    "|Save(V2|Slices)?|DistributedSave|MergeV2Checkpoints|DumpTensor|RecordInput"
    r"|(WholeFile|TextLine|TFRecord|FixedLengthRecord|LMDB|Snapshot\w*)Reader(V2)?"
    "|(TextLine|TFRecord|FixedLengthRecord|CSV|Sql|LMDB|MatchingFiles|Load|Save"
    r"|Snapshot\w*|DataService)Dataset(V\d)?"
    "|ListSnapshotChunksDataset|DatasetToTFRecord|RegisterDataset(V2)?"
    r"|CreateSummary(File|Db)Writer|Debug(Identity|NumericSummary|NanCount)(V\d)?"
    r"|FileSystemSetConfiguration|Gcs\w+|BigQuery\w+|Rpc\w+|DeleteRpcFutureResource"
    ")"
)
# What is called at a load: functions of tables and other resources, and ops by collection.
_AT_LOAD = {"_create_resource", "_initialize", "_destroy_resource"}
_COLLECTIONS = ("legacy_init_op", "main_op", "saved_model_main_op", "table_initializer")


def require_ops(path: Path, allowed_code: Collection[str] = ()) -> None:
    """Check that every op of a SavedModel's graph is there, and none that reaches out of it.

    `allowed_code` has the hashes of files that may. Raises RepositoryError with names.
    """
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
        _require_contained(path, meta_graph, functions, allowed_code)


def _require_contained(
    path: Path, meta_graph: Any, functions: dict[str, Any], allowed_code: Collection[str]
) -> None:
    """Raise RepositoryError for what reaches out of the model, in a call or in its load."""
    outside = next((a.filename for a in meta_graph.asset_file_def if not is_inside(a.filename)), "")
    if outside:
        raise RepositoryError(f"{path}: its asset '{outside}' leaves the folder of assets")
    loaded = [*_reached(meta_graph, functions), *_called_at_load(meta_graph, functions)]
    found = next((node for node in loaded if _reaches_out(node)), None)
    if found is None:
        return
    digest = f"sha256:{hashes.sha256(path / SAVED_MODEL)}"
    if digest not in allowed_code:
        raise RepositoryError(
            f"{path}: '{found.name}' is a {found.op}: it reads or writes files of this machine, or "
            "talks to others, so the model was not loaded; leave that step to the caller, who "
            "sends the content; or, if you trust who made the model, allow this very file at it: "
            f"engine: {{allowed_code: ['{digest}']}}"
        )


def _reaches_out(node: Any) -> bool:
    if node.op == "PrintV2":
        return bool(node.attr["output_stream"].s.startswith(b"file:"))
    return _REACHING.fullmatch(node.op) is not None


def _called_at_load(meta_graph: Any, functions: dict[str, Any]) -> Iterator[Any]:
    """Yield the nodes that loading a model computes: its tables, its ways to restore, its start."""
    objects = meta_graph.object_graph_def.nodes
    called = {
        child.node_id for node in objects for child in node.children if child.local_name in _AT_LOAD
    } | {
        saveable.restore_function for node in objects for saveable in node.saveable_objects.values()
    }
    names = {name for each in called for name in objects[each].function.concrete_functions}
    yield from _with_functions(
        [node for name in names & functions.keys() for node in functions[name].node_def], functions
    )
    ops = [name for key in _COLLECTIONS for name in meta_graph.collection_def[key].node_list.value]
    ops.append(meta_graph.saver_def.restore_op_name)
    yield from _upstream(meta_graph, functions, ops)


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
    outputs = [
        tensor
        for signature in meta_graph.signature_def.values()
        for info in signature.outputs.values()
        for tensor in _tensors(info)
    ]
    yield from _upstream(meta_graph, functions, outputs)


def _upstream(meta_graph: Any, functions: dict[str, Any], tensors: Iterable[str]) -> Iterator[Any]:
    """Yield the nodes that are computed for some tensors or ops, and those of their functions."""
    by_name = {node.name: node for node in meta_graph.graph_def.node}
    names = [_node_name(tensor) for tensor in tensors]
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
