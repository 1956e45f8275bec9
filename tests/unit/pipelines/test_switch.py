import numpy as np
import pytest
from hypothesis import given

from serve.errors import ConfigError, InferenceFailed, InvalidRequest
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import OUT, VALUES, Fake, always, assemble, infer, one_hot


def _switch(default=True, **branches):
    tree = {
        "kind": "switch",
        "by": {"model": "coarse"},
        "branches": branches or {"0": {"model": "even"}, "1": {"model": "odd"}},
    }
    if default:
        tree["default"] = {"model": "other"}
    coarse = Fake("coarse", lambda x: one_hot(np.where(x > 7, 2, x % 2)))
    members = (always("even", 0), always("odd", 1), always("other", 2))
    return assemble(tree, coarse, *members), members


@given(VALUES)
def test_a_switch_answers_each_row_by_its_branch_in_place(values):
    engine, (even, odd, other) = _switch()
    outputs = infer(engine, values)
    expected = [2 if v > 7 else v % 2 for v in values]
    assert outputs["p"].argmax(axis=1).tolist() == expected
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
    outputs = infer(assemble(tree, texts, always("a", 0), always("b", 1)), [1, 0])
    assert outputs["p"].argmax(axis=1).tolist() == [1, 0]


def test_a_branch_for_the_text_default_is_not_the_default_member():
    word = TensorSpec("word", "BYTES", (-1,))
    words = np.array([b"default", b"other", b"0"], object)
    coarse = Fake("coarse", lambda x: words[x.astype(int)], outputs=(word,))
    tree = {
        "kind": "switch",
        "by": {"model": "coarse"},
        "branches": {"0": {"model": "zero"}, "default": {"model": "named"}},
        "default": {"model": "rest"},
    }
    zero, named, rest = always("zero", 0), always("named", 1), always("rest", 2)
    outputs = infer(assemble(tree, coarse, zero, named, rest), [0, 1, 2, 0])
    assert outputs["p"].argmax(axis=1).tolist() == [1, 2, 0, 1]
    assert (named.rows, rest.rows, zero.rows) == ([0, 0], [1], [2])


def test_a_branch_for_the_text_default_is_no_default():
    word = TensorSpec("word", "BYTES", (-1,))
    coarse = Fake("coarse", lambda x: np.full(len(x), b"other", object), outputs=(word,))
    tree = {
        "kind": "switch",
        "by": {"model": "coarse"},
        "branches": {"default": {"model": "named"}},
    }
    engine = assemble(tree, coarse, always("named", 1))
    with pytest.raises(InvalidRequest, match="no branch for word = 'other' and no default"):
        infer(engine, [0])


def test_integers_choose_by_their_digits_and_truth_by_its_word():
    for datatype, values, names in (
        ("INT64", np.array([7, -1]), ("7", "-1")),
        ("BOOL", np.array([True, False]), ("True", "False")),
    ):
        spec = TensorSpec("c", datatype, (-1,))
        coarse = Fake("coarse", lambda x, v=values: v[x.astype(int)], outputs=(spec,))
        tree = {
            "kind": "switch",
            "by": {"model": "coarse"},
            "branches": {names[0]: {"model": "a"}, names[1]: {"model": "b"}},
        }
        outputs = infer(assemble(tree, coarse, always("a", 0), always("b", 1)), [1, 0])
        assert outputs["p"].argmax(axis=1).tolist() == [1, 0]


def test_the_tensor_that_chooses_is_named_where_there_are_several():
    other = TensorSpec("c", "INT64", (-1,))
    coarse = Fake(
        "coarse",
        lambda x: {"p": one_hot(np.zeros(len(x))), "c": np.ones(len(x), np.int64)},
        outputs=(OUT, other),
    )
    tree = {"kind": "switch", "by": {"model": "coarse"}}
    tree["branches"] = {"0": {"model": "even"}, "1": {"model": "odd"}}
    members = (coarse, always("even", 0), always("odd", 1))
    assert infer(assemble({**tree, "tensor": "c"}, *members), [5])["p"].argmax() == 1
    for member, label in zip(members, ("coarse", "even", "odd"), strict=True):
        member.label = label
    with pytest.raises(ConfigError, match=r"p\]\.tensor: 'coarse' has no output 'None' .*p, c"):
        assemble(tree, *members)


def test_rows_of_a_branch_are_counted_as_its_own():
    engine, _ = _switch()
    infer(engine, [0, 1, 2, 9])
    assert engine.layers.take_rows() == {
        ("even", "answered"): 2,
        ("odd", "answered"): 1,
        ("other", "answered"): 1,
    }


def _by(tensor, values):
    coarse = Fake("coarse", lambda x: values[x.astype(int)], outputs=(tensor,))
    tree = {"kind": "switch", "by": {"model": "coarse"}, "branches": {"0": {"model": "a"}}}
    return {**tree, "default": {"model": "b"}}, coarse, always("a", 0), always("b", 1)


@pytest.mark.parametrize(
    ("datatype", "shape", "said"),
    [
        ("FP32", (-1,), "let the model answer its choice as an integer or a text"),
        ("FP32", (-1, 1), "let the model answer its choice"),
        ("BF16", (-1,), "let the model answer its choice"),
        ("INT64", (-1, 4), "needs one value a row"),
        ("BYTES", (-1, 2), "needs one value a row"),
    ],
)
def test_a_tensor_that_cannot_choose_is_refused(datatype, shape, said):
    tensor = TensorSpec("c", datatype, shape)
    with pytest.raises(ConfigError, match=rf"p\]\.tensor: 'c' of 'coarse' is .*{said}"):
        assemble(*_by(tensor, None))


@pytest.mark.parametrize("values", [np.ones((3, 1), np.float32), np.ones((3, 2, 2), np.int64)])
def test_a_tensor_whose_shape_is_told_late_fails_then(values):
    tensor = TensorSpec("c", "FP32" if values.dtype == np.float32 else "INT64", None)
    with pytest.raises(InferenceFailed, match="the switch's tensor 'c' is"):
        infer(assemble(*_by(tensor, values)), [0, 1])


def test_a_row_with_nan_has_no_largest_class_and_goes_to_the_default():
    table = np.array([[1, 0], [np.nan, 0]], np.float32)
    tree, *members = _by(TensorSpec("c", "FP32", (-1, 2)), table)
    outputs = infer(assemble(tree, *members), [0, 1])
    assert outputs["p"].argmax(axis=1).tolist() == [0, 1]
    del tree["default"]
    with pytest.raises(InvalidRequest, match="no branch for c = 'nan' and no default"):
        infer(assemble(tree, *members), [1])
