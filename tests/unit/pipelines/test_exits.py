"""Each rule against its definition, written down plainly: one row, Python's own numbers."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from serve.pipelines.exits import SCORES, exits, passes

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


@given(_RULES, _tables(), st.floats(0, 2))
def test_a_row_leaves_by_the_definition_of_its_rule(rule, table, threshold):
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
        ("score_at_most", True),
        ("score_above", False),
    ],
)
def test_a_score_on_the_threshold_leaves_unless_it_must_be_above(rule, leaves):
    assert passes(rule, 0.5, np.array([0.5])).tolist() == [leaves]
    assert passes(rule, 0.5, np.array([])).tolist() == []


@given(_RULES, _tables(), st.data())
def test_nan_never_leaves_and_changes_nothing_for_other_rows(rule, table, data):
    row = data.draw(st.integers(0, len(table)), label="row")
    column = 0 if rule.startswith("score") else data.draw(st.integers(0, table.shape[1] - 1))
    spoilt = np.insert(table, row, 0.5, axis=0)
    spoilt[row, column] = np.nan
    for threshold in (0.0, 0.5, 1e9, -1e9):
        left = exits(rule, threshold, spoilt)
        assert not left[row]
        assert np.delete(left, row).tolist() == exits(rule, threshold, table).tolist()


@given(
    arrays(np.float32, array_shapes(min_dims=1, max_dims=3), elements=st.floats(-9, 9, width=32))
)
def test_a_score_tensor_has_its_first_number_of_each_row(values):
    expected = [float(np.ravel(row)[0]) for row in values]
    assert SCORES["score_above"](values).tolist() == expected


def test_certainty_and_ignorance_are_the_ends_of_each_measure():
    table = np.array([[0, 1, 0, 0], [0.25] * 4], np.float32)
    assert SCORES["max_probability"](table).tolist() == [1, 0.25]
    assert SCORES["margin"](table).tolist() == [1, 0]
    np.testing.assert_allclose(SCORES["entropy"](table), [0, math.log(4)])
