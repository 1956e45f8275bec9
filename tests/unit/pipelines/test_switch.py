import numpy as np
import pytest
from hypothesis import given

from serve.errors import InvalidRequest
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import VALUES, Fake, always, assemble, infer, one_hot


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
