"""What a model costs whatever the machine: its parameters, and its operations a row.

Called by tensorflow_engine for `strata compare`; nothing on a request's path needs it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
)

from serve.datatypes import DATATYPES
from serve.engines.engine import Complexity
from serve.types import Signature, TensorSpec

_LOOPS = {"While", "StatelessWhile", "LoopCond"}


def complexity_of(
    call: Callable[..., Any], variables: Sequence[Any], signature: Signature
) -> Complexity:
    """Count variables, and the operations of a call on a dict by TensorFlow's own profiler."""
    parameters = sum(int(variable.shape.num_elements() or 0) for variable in variables)
    return Complexity(parameters, _flops(call, signature))


def _flops(call: Callable[..., Any], signature: Signature) -> int | None:
    shapes = [_shape_of_one_row(spec) for spec in signature.inputs]
    if None in shapes:
        return None
    specs = [
        tf.TensorSpec(shape, _dtype_of(spec), name=spec.name)
        for shape, spec in zip(shapes, signature.inputs, strict=True)
    ]
    names = [spec.name for spec in signature.inputs]
    one_row = tf.function(lambda *tensors: call(dict(zip(names, tensors, strict=True))))
    with _without_warnings():  # of what TensorFlow itself calls
        return _operations_of(one_row.get_concrete_function(*specs))


def _operations_of(function: Any) -> int | None:
    # The profiler looks into no nested function; freezing puts them all into one graph.
    _, graph_def = convert_variables_to_constants_v2_as_graph(function)
    if any(node.op in _LOOPS for node in graph_def.node):
        return None
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)


@contextmanager
def _without_warnings() -> Iterator[None]:
    log = tf.get_logger()
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _dtype_of(spec: TensorSpec) -> Any:
    return tf.as_dtype(types_pb2.DataType.Value(DATATYPES[spec.datatype].tensorflow))


def _shape_of_one_row(spec: TensorSpec) -> tuple[int, ...] | None:
    shape = spec.shape
    if not shape or any(size < 0 for size in shape[1:]):
        return None
    return (max(shape[0], 1), *shape[1:])
