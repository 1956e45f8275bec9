"""ONNX files, made in no time."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_onnx(file, kind=TensorProto.FLOAT, shape=("rows", 3), nodes=None, initializers=()):
    """Write a model of x to y, which is y = 2x + 1 unless `nodes` say otherwise."""
    if nodes is None:
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        initializers = [
            numpy_helper.from_array(np.array(value, dtype), name)
            for name, value in (("two", 2), ("one", 1))
        ]
        nodes = [
            helper.make_node("Mul", ["x", "two"], ["double"]),
            helper.make_node("Add", ["double", "one"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(file))
    return file
