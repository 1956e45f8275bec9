import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve.datatypes import DATATYPES
from serve.errors import ConfigError, InferenceFailed
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import OUT, Fake, always, assemble, infer, number


def _ensemble(combine, *members):
    tree = {
        "kind": "ensemble",
        "combine": combine,
        "members": [{"model": m.label} for m in members],
    }
    return assemble(tree, *members)


def test_an_ensemble_means_votes_or_collects():
    a, b, c = always("a", 0), always("b", 1), always("c", 1)
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
        _ensemble("mean", always("a", 0), number("b", lambda x: x))


def test_a_collection_has_every_members_outputs_under_its_label():
    engine = _ensemble("collect", always("a", 0), number("b", lambda x: x + 1))
    signature = engine.signatures["serving_default"]
    assert [(spec.name, spec.shape) for spec in signature.outputs] == [
        ("a.p", (-1, 3)),
        ("b.y", (-1,)),
    ]
    assert infer(engine, [5])["b.y"].tolist() == [6]


@given(
    arrays(np.float32, (3, 4, 3), elements=st.floats(0, 1, width=32)),
    st.sampled_from(["FP16", "FP32", "FP64"]),
)
def test_a_mean_keeps_the_members_datatype(tables, datatype):
    spec = TensorSpec("p", datatype, (-1, 3))
    tables = tables.astype(DATATYPES[datatype].numpy)
    members = [Fake(f"m{i}", lambda x, t=t: t, outputs=(spec,)) for i, t in enumerate(tables)]
    outputs = infer(_ensemble("mean", *members), range(4))
    assert outputs["p"].dtype == tables.dtype
    expected = [[sum(float(t[r, c]) for t in tables) / 3 for c in range(3)] for r in range(4)]
    np.testing.assert_allclose(outputs["p"], expected, rtol=1e-2, atol=1e-3)


@given(arrays(np.float32, (3, 5, 3), elements=st.floats(0, 1, width=32)))
def test_no_mean_outweighs_a_vote(tables):
    members = [Fake(f"m{i}", lambda x, t=t: t) for i, t in enumerate(tables)]
    outputs = infer(_ensemble("vote", *members), range(5))
    for row, (winner, share) in enumerate(zip(outputs["class"], outputs["share"], strict=True)):
        votes = [int(table[row].argmax()) for table in tables]
        most = max(votes.count(c) for c in range(3))
        assert votes.count(winner) == most
        assert share == pytest.approx(most / 3)


@pytest.mark.parametrize(
    ("combine", "outputs", "said"),
    [
        ("mean", [TensorSpec("s", "BYTES", (-1,))], "mean needs numbers, output 's' is BYTES"),
        ("mean", [TensorSpec("n", "INT64", (-1,))], "mean needs numbers, output 'n' is INT64"),
        ("vote", [TensorSpec("y", "FP32", (-1,))], r"vote needs one output \[-1, classes\]"),
        ("vote", [TensorSpec("y", "FP32", (-1, 1))], r"vote needs one .* take the mean"),
        ("vote", [TensorSpec("y", "FP32", None)], r"vote needs one output \[-1, classes\]"),
        ("vote", [OUT, TensorSpec("q", "FP32", (-1, 3))], r"vote needs one output"),
    ],
)
def test_outputs_that_cannot_be_combined_are_refused(combine, outputs, said):
    members = [Fake(label, None, outputs=tuple(outputs)) for label in "ab"]
    with pytest.raises(ConfigError, match=rf"pipelines\[p\]\.combine: {said}"):
        _ensemble(combine, *members)


def test_every_member_computes_every_row():
    members = [always(label, 0) for label in "abc"]
    engine = _ensemble("mean", *members)
    infer(engine, [1, 2])
    assert [member.rows for member in members] == [[1, 2]] * 3
    assert [layer.label for layer in engine.layers.latest()] == ["a", "b", "c"]


def _answers(label, table):
    return Fake(label, lambda x: np.array(table, np.float32)[x.astype(int)])


def test_a_member_without_an_answer_for_a_row_has_no_vote():
    nothing = [np.nan] * 3
    a = _answers("a", [[0, 1, 0], nothing])
    b = _answers("b", [nothing, nothing])
    vote = infer(_ensemble("vote", a, b), [0, 1])
    assert vote["class"].tolist() == [1, -1]
    assert vote["share"].tolist() == [0.5, 0.0]


@pytest.mark.parametrize("combine", ["mean", "vote"])
def test_outputs_of_different_sizes_are_not_stretched_over_each_other(combine):
    shape = (TensorSpec("p", "FP32", (-1, -1)),)
    members = [
        Fake(label, lambda x, n=n: np.ones((len(x), n), np.float32), outputs=shape)
        for label, n in (("a", 3), ("b", 1))
    ]
    with pytest.raises(InferenceFailed, match=r"'p' of 'b' is \[2, 1\] and of 'a' \[2, 3\]"):
        infer(_ensemble(combine, *members), [0, 1])


def test_two_tensors_of_one_full_name_are_refused():
    one = Fake("a", None, outputs=(TensorSpec("b.c", "FP32", (-1,)),))
    other = Fake("a.b", None, outputs=(TensorSpec("c", "FP32", (-1,)),))
    with pytest.raises(ConfigError, match=r"members\[1\]: there is a tensor 'a\.b\.c' already"):
        _ensemble("collect", one, other)
