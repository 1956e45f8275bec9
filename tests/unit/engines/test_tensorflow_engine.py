"""The engine on functions of the tests' own; those of whole models are in the formats' tests."""

import weakref
from dataclasses import replace

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import InferenceFailed, InvalidRequest, RepositoryError
from serve.types import RowsVerdict, Signature, TensorSpec

_OPTIONS = EngineOptions(num_threads=1)


def _x(*shape):
    return TensorSpec("x", "FP32", shape)


_ROWS = _x(-1)


def _compiled(call, inputs=(_ROWS,), outputs=("y",), batched=True, name="serving_default"):
    from serve.engines.tensorflow_engine import CompiledFunction

    specs = tuple(TensorSpec(output, "FP32", (-1,)) for output in outputs)
    return CompiledFunction(Signature(name, inputs, specs, batched), call)


def _engine(*functions, default="serving_default", **more):
    from serve.engines.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine("test", functions, default, **more)


class Seen:
    """A function that notes the inputs it was called with and gives x back as y."""

    def __init__(self):
        self.inputs = []

    def __call__(self, tensors):
        self.inputs.append({name: tensor.numpy() for name, tensor in tensors.items()})
        return {"y": tensors["x"]}

    @property
    def shapes(self):
        return [inputs["x"].shape for inputs in self.inputs]


def test_outputs_come_in_the_order_of_the_signature_and_others_are_left_out():
    def call(tensors):
        return {"extra": tensors["x"], "b": tensors["x"] + 1, "a": tensors["x"] + 2}

    engine = _engine(_compiled(call, outputs=("a", "b")))
    outputs = engine.infer("serving_default", {"x": np.zeros(2, np.float32)})
    assert list(outputs) == ["a", "b"]
    assert [array.tolist() for array in outputs.values()] == [[2, 2], [1, 1]]


def test_the_signature_that_is_asked_for_computes():
    double = _compiled(lambda tensors: {"y": 2 * tensors["x"]})
    triple = _compiled(lambda tensors: {"y": 3 * tensors["x"]}, name="triple")
    engine = _engine(double, triple)
    assert engine.default_signature == "serving_default"
    assert engine.infer("triple", {"x": np.ones(1, np.float32)})["y"].tolist() == [3]


def test_a_single_text_is_an_array_of_one_like_any_other(tf):
    engine = _engine(_compiled(lambda tensors: {"y": tf.constant(b"\xffde")}))
    y = engine.infer("serving_default", {"x": np.ones(1, np.float32)})["y"]
    assert (y.dtype, y.shape, y.item()) == (object, (), b"\xffde")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda tf, x: {"y": tf.raw_ops.ReadFile(filename="/none")}, "NotFoundError"),
        (lambda tf, x: x.set_shape([7]), "ValueError"),
        (lambda tf, x: {"y": sum("x")}, "TypeError"),
    ],
)
def test_what_tensorflow_raises_is_named_and_chained(tf, call, named):
    engine = _engine(_compiled(lambda tensors: call(tf, tensors["x"])))
    with pytest.raises(
        InferenceFailed, match=f"raised {named} while computing signature"
    ) as caught:
        engine.infer("serving_default", {"x": np.zeros(2, np.float32)})
    assert type(caught.value.__cause__).__name__ == named


def test_warmup_runs_every_batch_size_of_every_signature_and_once_what_has_no_rows():
    one, two, whole = Seen(), Seen(), Seen()
    engine = _engine(
        _compiled(one),
        _compiled(two, (_x(-1, 3),), name="two"),
        _compiled(whole, (_x(4),), batched=False, name="whole"),
    )
    engine.warmup((1, 2, 8))
    assert one.shapes[-3:] == [(1,), (2,), (8,)]
    assert two.shapes[-3:] == [(1, 3), (2, 3), (8, 3)]
    assert whole.shapes == [(4,)]


def test_a_signature_earns_its_batches():
    ranked = _compiled(lambda t: {"y": t["x"] - t["x"][0]}, name="ranked")
    engine = _engine(_compiled(lambda t: {"y": 2 * t["x"]}), ranked)
    engine.earn_batching("auto", {}, {})
    assert engine.signatures["serving_default"].batched
    assert not engine.signatures["ranked"].batched
    assert "other numbers" in engine.signatures["ranked"].batched_reason
    known = {"ranked": RowsVerdict(True, "so it was found")}
    engine.earn_batching("auto", known, {})
    assert engine.signatures["ranked"].batched
    engine.earn_batching("together", known, {})
    assert not any(signature.batched for signature in engine.signatures.values())


def test_a_sample_without_a_signature_is_the_default_ones():
    one, two = Seen(), Seen()
    engine = _engine(_compiled(one), _compiled(two, name="two"))
    engine.earn_batching("auto", {}, {None: [{"x": np.array([5.0, 6.0])}]})
    engine.warmup((2,))
    assert one.inputs[-1]["x"].tolist() == [5, 6]
    assert two.inputs[-1]["x"].tolist() != [5, 6]


def test_a_default_signature_that_does_not_compute_fails_the_version(many_signatures, tf):
    def refuse(tensors):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory is left")

    other = _compiled(lambda tensors: {"y": tensors["x"]}, name="other")
    with pytest.raises(RepositoryError, match="no memory is left"):
        _engine(_compiled(refuse), other).warmup((1,))
    engine = _engine(_compiled(refuse), other, default="other")
    engine.warmup((1,))  # another one may want what nobody could guess


def test_warmup_finds_values_for_a_signature_that_refuses_zeros(many_signatures):
    engine = load(many_signatures, _OPTIONS)
    engine.warmup((1, 4))
    assert engine.retraces == 0
    assert engine.infer("no_zero", {"n": np.array([1], np.int32)})["n"].tolist() == [1]


def test_state_is_fresh_after_the_warmup(tf):
    count = tf.Variable(0.0, name="count")
    counted = tf.function(lambda tensors: {"y": tensors["x"] + count.assign_add(1)})
    function = replace(_compiled(counted), variables=(count,), state_ops=("AssignAddVariableOp",))
    engine = _engine(function)
    engine.earn_batching("auto", {"serving_default": RowsVerdict(True, "so it was found")}, {})
    engine.warmup((1, 2))
    assert engine.infer("serving_default", {"x": np.zeros(1, np.float32)})["y"].tolist() == [1]
    signature = engine.signatures["serving_default"]
    assert not signature.batched
    assert "keeps a state" in signature.batched_reason


@pytest.mark.parametrize("value", [0.5, b"de", True, 7])
def test_outputs_of_rank_0_are_arrays_of_their_type(tf, value):
    engine = _engine(_compiled(lambda tensors: {"y": tf.constant(value)}))
    y = engine.infer("serving_default", {"x": np.ones(1, np.float32)})["y"]
    wanted = object if value == b"de" else tf.constant(value).dtype.as_numpy_dtype
    assert (type(y), y.shape, y.dtype, y.item()) == (np.ndarray, (), wanted, value)


def test_values_that_the_model_refuses_are_the_clients_mistake(many_signatures):
    engine = load(many_signatures, _OPTIONS)
    with pytest.raises(InvalidRequest, match="refused these inputs: assertion failed: ") as caught:
        engine.infer("no_zero", {"n": np.array([0], np.int32)})
    assert "{{" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_traces_are_counted_from_warmup_on(tf):
    function = tf.function(lambda tensors: {"y": 2 * tensors["x"]})
    counted = function.experimental_get_tracing_count
    engine = _engine(_compiled(function), trace_count=counted)
    engine.warmup((1, 2))
    assert counted() > 0
    assert engine.retraces == 0
    engine.infer("serving_default", {"x": np.ones(2, np.float32)})
    assert engine.retraces == 0
    for rank in (2, 3):
        engine.infer("serving_default", {"x": np.ones([1] * rank, np.float32)})
    assert engine.retraces == 2


class Model:
    """What holds the variables of a model."""


def test_the_model_lives_as_long_as_its_engine():
    """The functions of a SavedModel do not keep its variables alive."""
    model = Model()
    alive = weakref.ref(model)
    engine = _engine(_compiled(lambda tensors: {"y": tensors["x"]}), owner=model)
    del model
    assert alive() is not None
    assert engine.default_signature == "serving_default"
    del engine
    assert alive() is None


def test_the_cost_is_that_of_the_default_signature(tf):
    weights = tf.Variable(tf.ones([3, 5]))
    dense = _compiled(lambda t: {"y": tf.matmul(t["x"], weights)}, (_x(-1, 3),), name="dense")
    dense = replace(dense, variables=(weights,))
    other = _compiled(lambda tensors: {"y": tensors["x"]}, name="other")
    cost = _engine(other, dense, default="dense").complexity()
    assert (cost.parameters, cost.flops) == (15, 30)
