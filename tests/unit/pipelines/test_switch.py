"""Sequence, ensemble, switch, splitter, and how they nest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.config.pipelines import PIPELINE
from serve.errors import ConfigError, InvalidRequest
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import Fake, assemble, infer, one_hot

_NUMBER = TensorSpec("y", "FP32", (-1,))


def _number(label, function):
    return Fake(label, function, outputs=(_NUMBER,))


def _is(label, index):
    return Fake(label, lambda x: one_hot(np.full(len(x), index)))


_VALUES = st.lists(st.integers(0, 9), max_size=30)


@given(_VALUES)
def test_a_sequence_hands_each_members_output_to_the_next(values):
    double, add = _number("double", lambda x: x * 2), _number("add", lambda y: y + 1)
    engine = assemble(
        {"kind": "sequence", "steps": [{"model": "double"}, {"model": "add"}]}, double, add
    )
    assert infer(engine, values)["y"].tolist() == [2 * v + 1 for v in values]


def test_wires_reach_back_to_the_request_and_to_earlier_members():
    z = TensorSpec("z", "FP32", (-1,))
    double = _number("double", lambda x: x * 2)
    both = Fake(
        "both",
        lambda a, b: a * 100 + b,
        (TensorSpec("a", "FP32", (-1,)), TensorSpec("b", "FP32", (-1,))),
        (z,),
    )
    steps = [
        {"model": "double"},
        {"model": "both", "inputs": {"a": "request.x", "b": "double.y"}},
    ]
    engine = assemble({"kind": "sequence", "steps": steps}, double, both)
    assert infer(engine, [3])["z"].tolist() == [306]


@pytest.mark.parametrize(
    ("wires", "said"),
    [
        ({"q": "request.x"}, r"steps\[1\]\.inputs\.q: the model has no such input \(it has: x\)"),
        ({"x": "request.no"}, None),
        ({"x": "first.no"}, r"inputs\.x: there is no tensor 'first\.no'"),
        ({"x": "first.p"}, r"first\.p is 'p' FP32 \[-1, 3\], which does not fit 'x' FP32 \[-1\]"),
        ({"x": "first.s"}, r"first\.s is 's' BYTES \[-1\], which does not fit"),
    ],
)
def test_a_wire_that_does_not_fit_is_refused_with_both_ends_named(wires, said):
    outputs = (TensorSpec("p", "FP32", (-1, 3)), TensorSpec("s", "BYTES", (-1,)))
    first = Fake("first", lambda x: {}, outputs=outputs)
    second = _number("second", lambda x: x)
    tree = {
        "kind": "sequence",
        "steps": [{"model": "first"}, {"model": "second", "inputs": wires}],
    }
    if said is None:
        signature = assemble(tree, first, second).signatures["serving_default"]
        assert [spec.name for spec in signature.inputs] == ["x", "no"]
        return
    with pytest.raises(ConfigError, match=said):
        assemble(tree, first, second)


def _ensemble(combine, *members):
    tree = {
        "kind": "ensemble",
        "combine": combine,
        "members": [{"model": m.label} for m in members],
    }
    return assemble(tree, *members)


def test_an_ensemble_means_votes_or_collects():
    a, b, c = _is("a", 0), _is("b", 1), _is("c", 1)
    mean = infer(_ensemble("mean", a, b, c), [5])
    assert mean["p"].dtype == np.float32
    np.testing.assert_allclose(mean["p"], [[1 / 3, 2 / 3, 0]], atol=1e-6)
    vote = infer(_ensemble("vote", a, b, c), [5, 6])
    assert vote["class"].tolist() == [1, 1]
    np.testing.assert_allclose(vote["share"], 2 / 3, atol=1e-6)
    assert set(infer(_ensemble("collect", a, b), [5])) == {"a.p", "b.p"}


def test_equal_votes_are_decided_by_the_mean():
    sure = Fake("sure", lambda x: np.tile(np.array([[0, 0, 1.0]], np.float32), (len(x), 1)))
    unsure = Fake("unsure", lambda x: np.tile(np.array([[0.4, 0.3, 0.3]], np.float32), (len(x), 1)))
    assert infer(_ensemble("vote", unsure, sure), [1])["class"].tolist() == [2]


def test_members_of_an_ensemble_must_answer_alike():
    with pytest.raises(ConfigError, match=r"members\[1\]: 'b' answers 'y'"):
        _ensemble("mean", _is("a", 0), _number("b", lambda x: x))


def _switch(default=True, **branches):
    tree = {
        "kind": "switch",
        "by": {"model": "coarse"},
        "branches": branches or {"0": {"model": "even"}, "1": {"model": "odd"}},
    }
    if default:
        tree["default"] = {"model": "other"}
    coarse = Fake("coarse", lambda x: one_hot(np.where(x > 7, 2, x % 2)))
    members = (_is("even", 0), _is("odd", 1), _is("other", 2))
    return assemble(tree, coarse, *members), members


@given(_VALUES)
def test_a_switch_answers_each_row_by_its_branch_in_place(values):
    engine, (even, odd, other) = _switch()
    answer = infer(engine, values)
    expected = [2 if v > 7 else v % 2 for v in values]
    assert answer["p"].argmax(axis=1).tolist() == expected
    assert sorted([*even.rows, *odd.rows, *other.rows]) == sorted(values)


def test_a_value_without_a_branch_and_no_default_is_a_clear_error():
    engine, _ = _switch(default=False)
    assert infer(engine, [0, 1])["p"].shape == (2, 3)
    with pytest.raises(InvalidRequest, match="no branch for p = '2' and no default"):
        infer(engine, [0, 9])


def test_a_switch_reads_strings_and_numbers_too():
    label = TensorSpec("label", "BYTES", (-1,))
    texts = Fake(
        "coarse", lambda x: np.array([b"de", b"fr"], object)[x.astype(int)], outputs=(label,)
    )
    tree = {
        "kind": "switch",
        "by": {"model": "coarse"},
        "branches": {"de": {"model": "a"}, "fr": {"model": "b"}},
    }
    answer = infer(assemble(tree, texts, _is("a", 0), _is("b", 1)), [1, 0])
    assert answer["p"].argmax(axis=1).tolist() == [1, 0]


def _splitter(weights, key=None):
    tree = {
        "kind": "splitter",
        "members": [{"model": "a"}, {"model": "b"}],
        "weights": weights,
        "key": key,
    }
    return assemble(tree, _is("a", 0), _is("b", 1))


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=50))
def test_a_splitter_sends_the_same_key_the_same_way_and_keeps_rows_in_place(keys):
    engine = _splitter([0.5, 0.5], "user")
    users = np.array(keys, object)
    first = infer(engine, range(len(keys)), user=users)
    again = infer(engine, range(len(keys)), user=users[::-1].copy())
    assert first["member"].tolist() == again["member"].tolist()[::-1]
    assert first["p"].argmax(axis=1).tolist() == [int(m == b"b") for m in first["member"]]


def test_a_splitter_keeps_to_its_weights():
    answer = infer(_splitter([0.9, 0.1]), range(4000))
    share = (answer["member"] == b"b").mean()
    assert 0.07 < share < 0.13
    assert not (infer(_splitter([1, 0]), range(100))["member"] == b"b").any()


@pytest.mark.parametrize(
    ("weights", "said"),
    [([0.5, 0.6], "sum to 1.1"), ([1], "1 for 2 members"), ([2, -1], "greater")],
)
def test_weights_that_do_not_work_are_refused(weights, said):
    members = [{"model": "a"}, {"model": "b"}]
    tree = {"name": "p", "kind": "splitter", "members": members, "weights": weights}
    with pytest.raises(ValidationError) as caught:
        PIPELINE.validate_python(tree)
    assert said in str(caught.value)


def test_pipelines_nest():
    inner = {
        "name": "inner",
        "kind": "cascade",
        "layers": [{"model": "a", "exit": {"max_probability": 0.9}}, {"model": "b"}],
    }
    tree = {
        "kind": "ensemble",
        "combine": "collect",
        "members": [{"model": "inner"}, {"model": "c"}],
    }
    engine = assemble(tree, _is("a", 0), _is("b", 1), _is("c", 2), pipelines=[inner])
    answer = infer(engine, [1, 2])
    assert answer["inner.layer"].tolist() == [b"a", b"a"]
    assert answer["c.p"].argmax(axis=1).tolist() == [2, 2]


def test_a_circle_is_refused_with_its_path():
    inner = {"name": "inner", "kind": "sequence", "steps": [{"model": "p"}]}
    outer = {"name": "p", "kind": "sequence", "steps": [{"model": "inner"}]}
    with pytest.raises(ConfigError, match="p -> inner -> p goes round in a circle"):
        assemble({"kind": "sequence", "steps": [{"model": "inner"}]}, pipelines=[inner, outer])
