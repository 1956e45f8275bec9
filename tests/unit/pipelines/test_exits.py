"""Each rule against its definition, written down plainly: one row, Python's own numbers."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve.errors import InferenceFailed
from serve.pipelines.exits import SCORES, exits, misfit, passes, scores_of
from serve.types import TensorSpec

_DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
_NEAR = 1e-9  # a threshold this close to a score is decided by rounding


def _entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def _margin(row):
    first, second, *_ = [*sorted(row, reverse=True), 0.0]
    return first - second


# The rule: a row's score, and whether a row leaves.
_PLAIN = {
    "max_probability": (max, lambda score, threshold: score >= threshold),
    "margin": (_margin, lambda score, threshold: score >= threshold),
    "entropy": (_entropy, lambda score, threshold: score <= threshold),
    "binary_probability": (
        lambda row: min(max(p, 1 - p) for p in row),
        lambda score, threshold: score >= threshold,
    ),
    "score_at_most": (lambda row: row[0], lambda score, threshold: score <= threshold),
    "score_above": (lambda row: row[0], lambda score, threshold: score > threshold),
}
_RULES = st.sampled_from(sorted(_PLAIN))


@st.composite
def _tables(draw):
    """Return rows of numbers in 0..1, as probabilities are; they need not sum to 1 here."""
    shape = (draw(st.integers(1, 8)), draw(st.integers(1, 6)))
    dtype = draw(_DTYPES)
    width = np.dtype(dtype).itemsize * 8
    return draw(arrays(dtype, shape, elements=st.floats(0, 1, width=width)))


def _fitting(rule, table):
    """Return the columns of a table that a rule may look at."""
    assume(rule not in {"max_probability", "margin", "entropy"} or table.shape[1] > 1)
    return table[:, :1] if rule.startswith("score") else table


@given(_RULES, _tables(), st.floats(0, 2))
def test_a_row_leaves_by_the_definition_of_its_rule(rule, table, threshold):
    table = _fitting(rule, table)
    score, leaves = _PLAIN[rule]
    scores = [score(row) for row in table.astype(float).tolist()]
    assume(all(abs(one - threshold) > _NEAR for one in scores))
    assert exits(rule, threshold, table).tolist() == [leaves(one, threshold) for one in scores]


@pytest.mark.parametrize(
    ("rule", "leaves"),
    [
        ("max_probability", True),
        ("margin", True),
        ("entropy", True),
        ("binary_probability", True),
        ("score_at_most", True),
        ("score_above", False),
    ],
)
def test_a_score_on_the_threshold_leaves_unless_it_must_be_above(rule, leaves):
    assert passes(rule, 0.5, np.array([0.5])).tolist() == [leaves]
    assert passes(rule, 0.5, np.array([])).tolist() == []


@given(_RULES, _tables(), st.data())
def test_nan_never_leaves_and_changes_nothing_for_other_rows(rule, table, data):
    table = _fitting(rule, table)
    row = data.draw(st.integers(0, len(table)), label="row")
    column = 0 if rule.startswith("score") else data.draw(st.integers(0, table.shape[1] - 1))
    spoilt = np.insert(table, row, 0.5, axis=0)
    spoilt[row, column] = np.nan
    for threshold in (0.0, 0.5, 1e9, -1e9):
        left = exits(rule, threshold, spoilt)
        assert not left[row]
        assert np.delete(left, row).tolist() == exits(rule, threshold, table).tolist()


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 1, 1)])
def test_a_score_tensor_has_one_number_a_row(shape):
    values = np.array([1.0, -2.0, 9.0], np.float32).reshape(shape)
    assert scores_of("score_above", values).tolist() == [1, -2, 9]


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([(-1,), (-1, 1)]))
def test_one_probability_is_as_sure_of_no_as_of_yes(values, shape):
    p = np.array(values, np.float64).reshape(shape if values else (0, *shape[1:]))
    assert scores_of("binary_probability", p).tolist() == [max(one, 1 - one) for one in values]
    assert scores_of("binary_probability", 1 - p) == pytest.approx(
        scores_of("binary_probability", p)
    )


def test_of_several_probabilities_the_least_sure_one_decides():
    table = np.array([[0.01, 0.99, 0.02], [0.01, 0.6, 0.99]])
    assert scores_of("binary_probability", table) == pytest.approx([0.98, 0.6])


@pytest.mark.parametrize("rule", ["max_probability", "margin", "entropy", "binary_probability"])
@pytest.mark.parametrize("value", [-0.5, 1.5, np.inf])
def test_logits_are_no_probabilities(rule, value):
    table = np.array([[0.1, 0.9], [0.1, value]])
    with pytest.raises(InferenceFailed, match=f"{rule} looks at probabilities.* {value:g}"):
        scores_of(rule, table)


@pytest.mark.parametrize(
    ("rule", "shape", "said"),
    [
        ("max_probability", (-1, 1), r"two classes or more.*binary_probability; 'p' is \[-1, 1\]"),
        ("margin", (-1,), "binary_probability"),
        ("entropy", (-1, 4, 4), "choose one by output"),
        ("binary_probability", (-1, 4, 4), r"needs \[-1\], \[-1, 1\] or \[-1, labels\]"),
        ("score_at_most", (-1, 10), "needs one number a row"),
        ("score_above", (-1, 2, 2), "needs one number a row"),
    ],
)
def test_a_rule_that_does_not_fit_says_what_would(rule, shape, said):
    assert re.search(said, misfit(rule, TensorSpec("p", "FP32", shape)))
    values = np.zeros([abs(size) for size in shape], np.float32)
    with pytest.raises(InferenceFailed):
        scores_of(rule, values)


@pytest.mark.parametrize("rule", list(SCORES))
def test_what_is_not_known_before_is_looked_at_when_it_comes(rule):
    unknown = (-1, -1)
    assert misfit(rule, TensorSpec("p", "FP32", unknown)) == ""
    assert misfit(rule, TensorSpec("p", "FP32", None)) == ""
    with pytest.raises(InferenceFailed):
        scores_of(rule, np.zeros((2, 3, 4)))


def test_certainty_and_ignorance_are_the_ends_of_each_measure():
    table = np.array([[0, 1, 0, 0], [0.25] * 4], np.float32)
    assert SCORES["max_probability"](table).tolist() == [1, 0.25]
    assert SCORES["margin"](table).tolist() == [1, 0]
    np.testing.assert_allclose(SCORES["entropy"](table), [0, math.log(4)])
