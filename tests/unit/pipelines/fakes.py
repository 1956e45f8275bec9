"""Members that compute in numpy, so that pipelines are tested without an engine."""

import numpy as np
from hypothesis import strategies as st

from serve.config.pipelines import PIPELINE
from serve.engines.engine import NoLayers
from serve.errors import InferenceFailed
from serve.pipelines.build import build
from serve.types import Signature, TensorSpec

IN = TensorSpec("x", "FP32", (-1,))
OUT = TensorSpec("p", "FP32", (-1, 3))
NUMBER = TensorSpec("y", "FP32", (-1,))
VALUES = st.lists(st.integers(0, 9), max_size=30)


class Fake:
    """Computes with a function of its inputs and remembers the rows it was given."""

    retraces = 0
    may_block_loop = True

    def __init__(self, label, function, inputs=(IN,), outputs=(OUT,), batched=True):
        self.label = label
        self.signature = Signature("serving_default", inputs, outputs, batched)
        self.seen = []
        self.is_warm = False
        self.is_closed = False
        self._function = function

    def compute(self, inputs):
        self.seen.append({name: array.copy() for name, array in inputs.items()})
        outputs = self._function(*inputs.values())
        if isinstance(outputs, dict):
            return outputs
        return {self.signature.outputs[0].name: outputs}

    def warmup(self):
        self.is_warm = True

    def close(self):
        self.is_closed = True

    @property
    def rows(self):
        return [value for seen in self.seen for value in seen["x"].tolist()]


def one_hot(classes, size=3):
    return np.eye(size, dtype=np.float32)[np.asarray(classes, int)]


def number(label, function):
    """Return a member with one number a row, `y`."""
    return Fake(label, function, outputs=(NUMBER,))


def always(label, index):
    """Return a member that is certain of one class whatever the row."""
    return Fake(label, lambda x: one_hot(np.full(len(x), index)))


def sure_of(*wanted, tag=0):
    """Return a layer's function: certain of the wanted rows, undecided about others."""

    def compute(x):
        outputs = np.full((len(x), 3), 1 / 3, np.float32)
        known = np.isin(x, wanted)
        outputs[known] = one_hot(np.full(known.sum(), tag))
        return outputs

    return compute


def refuse(x):
    raise InferenceFailed("the model raised ValueError")


def assemble(tree, *members, pipelines=()):
    """Build a pipeline from its config with fakes for its models."""
    by_name = {member.label: member for member in members}
    others = {other["name"]: PIPELINE.validate_python(other) for other in pipelines}

    def find(label, model, version):
        member = by_name[model]
        member.label = label
        return member

    return build(PIPELINE.validate_python({"name": "p", **tree}), others, find)


def infer(engine, x, **more):
    inputs = {"x": np.asarray(x, np.float32), **more}
    return engine.infer("serving_default", inputs)


class RowEngine:
    """An engine that doubles x into y and remembers what it was given."""

    platform = "numpy"
    default_signature = "serving_default"
    pads_itself = False
    name = "tensorflow"
    reason = "set by a test"
    layers = NoLayers()

    def __init__(self, *, batched=True, may_block_loop=True):
        self.signatures = {
            "serving_default": Signature("serving_default", (IN,), (NUMBER,), batched)
        }
        self.may_block_loop = may_block_loop
        self.retraces = 0
        self.seen, self.signatures_used, self.warm_sizes = [], [], []
        self.is_closed = False

    def infer(self, signature, inputs):
        self.signatures_used.append(signature)
        self.seen.append(inputs["x"].copy())
        return {"y": inputs["x"] * 2}

    def warmup(self, batch_sizes):
        self.warm_sizes = list(batch_sizes)

    def close(self):
        self.is_closed = True
