"""The engine on functions of the tests' own; those of whole models are in the formats' tests."""

import weakref
from dataclasses import replace

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import InferenceFailed
from serve.types import Signature, TensorSpec

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
        (lambda tf, x: {"y": tf.reshape(x, [-1, 7])}, "InvalidArgumentError"),
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
    assert one.shapes == [(1,), (2,), (8,)]
    assert two.shapes == [(1, 3), (2, 3), (8, 3)]
    assert whole.shapes == [(4,)]


@pytest.mark.parametrize(
    ("shape", "made"), [((-1, -1, 2), (5, 1, 2)), ((), (1,)), (None, (1,)), ((-1,), (5,))]
)
def test_sizes_that_are_not_known_are_one_in_warmup(shape, made):
    seen = Seen()
    _engine(_compiled(seen, (TensorSpec("x", "FP32", shape),))).warmup((5,))
    assert seen.shapes == [made]


def test_texts_of_warmup_are_empty_and_numbers_of_their_type():
    seen = Seen()
    words, count = TensorSpec("words", "BYTES", (-1, 2)), TensorSpec("count", "INT16", (-1,))
    _engine(_compiled(seen, (_x(-1), words, count))).warmup((1,))
    (inputs,) = seen.inputs
    assert inputs["words"].tolist() == [[b"", b""]]
    assert inputs["count"].dtype == np.int16


def test_warmup_runs_every_signature_and_survives_one_that_refuses_zeros(many_signatures, caplog):
    engine = load(many_signatures, _OPTIONS)
    engine.warmup((1, 4))
    assert "no_zero" in caplog.text
    assert engine.retraces == 0
    assert engine.infer("no_zero", {"n": np.array([1], np.int32)})["n"].tolist() == [1]


def test_what_the_model_raises_becomes_a_short_message(many_signatures):
    engine = load(many_signatures, _OPTIONS)
    with pytest.raises(InferenceFailed, match="InvalidArgumentError") as caught:
        engine.infer("no_zero", {"n": np.array([0], np.int32)})
    assert len(str(caught.value)) < 200
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
