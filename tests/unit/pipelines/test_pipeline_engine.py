import numpy as np
import pytest

from serve.errors import InvalidRequest
from serve.pipelines.layer_metrics import LayerRecorder
from serve.pipelines.pipeline_engine import Kind, PipelineEngine
from serve.types import Signature, TensorSpec
from tests.unit.pipelines.fakes import IN, NUMBER, Fake, always, assemble, infer, number

_OUTPUTS = (
    TensorSpec("p", "FP32", (-1, -1, 3)),
    TensorSpec("text", "BYTES", (-1,)),
    TensorSpec("n", "INT64", None),
)


class Recording(Kind):
    """A kind that notes what it is asked to do."""

    def __init__(self, *, batched=True):
        self.signature = Signature("serving_default", (IN,), _OUTPUTS, batched)
        self.computed, self.is_closed = [], False

    def compute(self, inputs):
        self.computed.append(inputs)
        return {}

    def close(self):
        self.is_closed = True


def _engine(kind, *members):
    return PipelineEngine(kind, members, LayerRecorder("last"))


def test_no_rows_are_no_rows_of_every_output_and_nobody_computes():
    kind = Recording()
    outputs = infer(_engine(kind), [])
    assert kind.computed == []
    assert {name: array.shape for name, array in outputs.items()} == {
        "p": (0, 0, 3),
        "text": (0,),
        "n": (0,),
    }
    assert [a.dtype for a in outputs.values()] == [np.float32, np.dtype(object), np.int64]


def test_a_pipeline_without_rows_computes_whatever_its_inputs_hold():
    kind = Recording(batched=False)
    infer(_engine(kind), [])
    assert len(kind.computed) == 1


def test_the_layers_of_the_request_before_are_forgotten_even_where_nothing_is_computed():
    engine = assemble({"kind": "sequence", "steps": [{"model": "a"}]}, always("a", 0))
    infer(engine, [1])
    infer(engine, [1])
    assert len(engine.layers.latest()) == 1
    infer(engine, [])
    assert engine.layers.latest() == ()


@pytest.mark.parametrize(("elsewhere", "may_block"), [(False, True), (True, False)])
def test_a_pipeline_blocks_the_loop_only_if_no_member_needs_it(elsewhere, may_block):
    here, there = number("here", None), number("there", None)
    there.may_block_loop = not elsewhere
    assert _engine(Recording(), here, there).may_block_loop is may_block


def test_retraces_are_those_of_all_members():
    first, second = Fake("first", None), Fake("second", None)
    engine = _engine(Recording(), first, second)
    assert engine.retraces == 0
    first.retraces, second.retraces = 2, 3
    assert engine.retraces == 5


def test_warming_and_closing_reach_every_member_and_closing_the_kind_too():
    kind, members = Recording(), (Fake("first", None), Fake("second", None))
    engine = _engine(kind, *members)
    engine.warmup([1, 2])
    assert all(member.is_warm for member in members)
    assert not kind.is_closed
    engine.close()
    assert kind.is_closed
    assert all(member.is_closed for member in members)


def test_closing_reaches_the_members_of_nested_pipelines():
    a, b = number("a", lambda x: x), number("b", lambda y: y)
    inner = {"name": "inner", "kind": "sequence", "steps": [{"model": "a"}]}
    steps = [{"model": "inner"}, {"model": "b"}]
    engine = assemble({"kind": "sequence", "steps": steps}, a, b, pipelines=[inner])
    engine.warmup([1])
    assert (a.is_warm, b.is_warm) == (True, True)
    a.retraces = 4
    assert engine.retraces == 4
    engine.close()
    assert (a.is_closed, b.is_closed) == (True, True)


def test_a_pipeline_looks_like_a_model_with_one_signature_that_pads_by_itself():
    engine = assemble({"kind": "sequence", "steps": [{"model": "a"}]}, number("a", None))
    assert list(engine.signatures) == [engine.default_signature] == ["serving_default"]
    assert engine.signatures["serving_default"].outputs == (NUMBER,)
    assert engine.pads_itself


_TWO = (TensorSpec("x", "FP32", (-1,)), TensorSpec("z", "FP32", (-1,)))
_PARTING = [
    {"kind": "splitter", "members": [{"model": "a"}, {"model": "b"}], "weights": [0.5, 0.5]},
    {"kind": "cascade", "layers": [
        {"model": "a", "exit": {"score_above": 5, "output": "y"}},
        {"model": "b"},
    ]},
]  # fmt: skip


@pytest.mark.parametrize("tree", _PARTING, ids=["splitter", "cascade"])
@pytest.mark.parametrize("rows", [(2, 5), (1, 5), (5, 2), (0, 2)])
def test_inputs_of_different_length_are_refused_where_rows_part_ways(tree, rows):
    """A model would stretch one row over many; here rows would be left out without a word."""
    members = [Fake(name, lambda x, z: x + z, _TWO, (NUMBER,)) for name in "ab"]
    engine = assemble(tree, *members)
    first, second = (np.ones(count, np.float32) for count in rows)
    with pytest.raises(InvalidRequest, match=rf"'x' \[{rows[0]}\], 'z' \[{rows[1]}\]"):
        infer(engine, first, z=second)
    assert infer(engine, [1, 2], z=np.ones(2, np.float32))["y"].tolist() == [2, 3]


def test_a_sequence_hands_inputs_of_different_length_on_as_they_are():
    member = Fake("a", lambda x, z: x + z, _TWO, (NUMBER,), batched=False)
    engine = assemble({"kind": "sequence", "steps": [{"model": "a"}]}, member)
    assert infer(engine, [1], z=np.ones(3, np.float32))["y"].tolist() == [2, 2, 2]
