import numpy as np
import pytest
from hypothesis import given

from serve.errors import ConfigError, InferenceFailed
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import IN, VALUES, Fake, assemble, infer, number, refuse


def _sequence(*members, **inputs):
    steps = [{"model": m.label, "inputs": inputs.get(m.label, {})} for m in members]
    return assemble({"kind": "sequence", "steps": steps}, *members)


@given(VALUES)
def test_a_sequence_hands_each_members_output_to_the_next(values):
    double, add = number("double", lambda x: x * 2), number("add", lambda y: y + 1)
    engine = _sequence(double, add)
    assert infer(engine, values)["y"].tolist() == [2 * v + 1 for v in values]


def test_the_first_step_may_take_a_request_tensor_of_another_name():
    double, both = (
        number("double", lambda x: x * 2),
        Fake(
            "both",
            lambda a, b: a * 100 + b,
            (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))),
            (TensorSpec("z", "FP32", (-1,)),),
        ),
    )
    wires = {"double": {"x": "request.picture"}, "both": {"a": "request.picture", "b": "double.y"}}
    engine = _sequence(double, both, **wires)
    assert engine.signatures["serving_default"].inputs == (
        TensorSpec("picture", IN.datatype, IN.shape),
    )
    picture = np.array([3, 5], np.float32)
    outputs = engine.infer("serving_default", {"picture": picture})
    assert outputs["z"].tolist() == [306, 510]
    assert double.rows == [3, 5]


def test_only_the_last_members_outputs_are_the_sequences():
    first, last = number("first", lambda x: x), Fake("last", lambda y: np.tile(y, (3, 1)).T)
    engine = _sequence(first, last, last={"x": "first.y"})
    assert list(infer(engine, [1, 2])) == ["p"]
    assert engine.signatures["serving_default"].outputs == last.signature.outputs


def test_a_step_that_fails_ends_the_request_with_its_own_error():
    last = number("last", lambda x: x)
    with pytest.raises(InferenceFailed, match="the model raised ValueError"):
        infer(_sequence(number("first", refuse), last), [1])
    assert last.seen == []


def test_a_sequence_takes_rows_only_if_all_its_members_do():
    whole = Fake("whole", lambda x: x, outputs=(IN,), batched=False)
    engine = _sequence(number("rows", lambda x: x), whole)
    assert not engine.signatures["serving_default"].batched
    assert _sequence(number("rows", lambda x: x)).signatures["serving_default"].batched


def test_the_time_of_each_step_is_told_in_the_order_they_ran():
    engine = _sequence(number("double", lambda x: x * 2), number("add", lambda y: y + 1))
    infer(engine, [1])
    first, second = engine.layers.latest()
    assert (first.label, second.label) == ("double", "add")
    assert first.started + first.seconds <= second.started


def test_two_tensors_of_one_full_name_are_refused():
    one = Fake("a", None, outputs=(TensorSpec("b.c", "FP32", (-1,)),))
    other = Fake("a.b", None, outputs=(TensorSpec("c", "FP32", (-1,)),))
    with pytest.raises(ConfigError, match=r"steps\[1\]: there is a tensor 'a\.b\.c' already"):
        _sequence(one, other, **{"a.b": {"x": "request.x"}})
