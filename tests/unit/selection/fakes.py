"""Engines of numpy, and a version's engines as a trial leaves them, made in no time."""

from dataclasses import replace

import numpy as np

from serve.engines.function_engine import FunctionEngine, TriedFunction
from serve.engines.trial import Trial
from serve.errors import InvalidRequest
from serve.repository.manifest import record
from serve.selection import libraries
from serve.selection.cases import make_samples, write_samples
from serve.selection.hardware import hardware
from serve.selection.verdict import Candidate, Measured, Verdict
from serve.types import Signature, TensorSpec

NAME = "serving_default"
SIGNATURE = Signature(
    NAME, (TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 3)),), batched=True
)


def double(inputs):
    """Compute 2x + 1."""
    return {"y": inputs["x"] * np.float32(2) + np.float32(1)}


def signature_of(datatype):
    """Return a signature of the datatype that goes in and comes out."""
    return replace(
        SIGNATURE,
        inputs=(TensorSpec("x", datatype, (-1, 3)),),
        outputs=(TensorSpec("y", datatype, (-1, 3)),),
    )


def engine_of(infer=double, signature=SIGNATURE):
    """Return an engine of one signature."""
    tried = {signature.name: TriedFunction(signature, infer, Trial(infer))}
    return FunctionEngine("numpy", tried, signature.name)


def table(inputs):
    """Look rows of a table of 10 up, and refuse what is outside of it as TensorFlow does."""
    ids = inputs["x"]
    if ((ids < 0) | (ids >= 10)).any():
        raise InvalidRequest("indices are not in [0, 10)")
    return {"y": np.arange(10, dtype=ids.dtype)[ids] * ids.dtype.type(3)}


def write_ir(file, factor=2.0):
    """Write factor * x + 1 as OpenVINO has it."""
    import openvino
    from openvino import opset13 as ops

    x = ops.parameter([-1, 3], np.float32, name="x")
    x.output(0).set_names({"x"})
    weights = ops.constant(np.full((1, 3), factor, np.float32))
    y = ops.add(ops.multiply(x, weights), ops.constant(np.float32(1)))
    y.output(0).set_names({"y"})
    openvino.save_model(openvino.Model([y], [x]), str(file), compress_to_fp16=False)


def verdict_with(release=None, **changes):
    """Return the verdict of a trial that chose OpenVINO for `double`, in its `release`."""
    verdict = Verdict(
        chosen="openvino",
        reason="3.0 times as fast",
        native="tensorflow",
        platform="keras",
        hardware=hardware(0),
        num_threads=1,
        created="2026-01-01T00:00:00+00:00",
        candidates=(
            Candidate("tensorflow", "2", Measured({1: 100.0, 4: 200.0}, 9.0, 600_000_000)),
            Candidate(
                "openvino",
                release or libraries.release("openvino"),
                Measured({1: 200.0, 4: 600.0}, 0.5, 100_000_000),
            ),
            Candidate("onnxruntime", "1", refused="output 'y'[0, 0] is 1 instead of 2"),
        ),
        default_signature=NAME,
        signatures=(SIGNATURE,),
        parameters=3,
    )
    return replace(verdict, **changes)


def write_engines(folder, **changes):
    """Write what such a trial leaves; return the verdict."""
    folder.mkdir(parents=True)
    write_ir(folder / "0.xml")
    write_samples(make_samples(engine_of())[:1], folder)
    digests = {file.name: record(file).sha256 for file in sorted(folder.iterdir())}
    verdict = verdict_with(**{"files": {NAME: "0.xml"}, "digests": digests, **changes})
    (folder / "verdict.json").write_bytes(verdict.to_json())
    return verdict
