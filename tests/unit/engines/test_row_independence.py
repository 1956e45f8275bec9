"""Rows that see each other in some way or other, and rows that do not, in plain numpy."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engines.row_independence import prove, same
from serve.errors import InferenceFailed, InvalidRequest

_RNG = np.random.default_rng(0)
_X = _RNG.normal(size=(4, 3)).astype(np.float32)
_WEIGHTS = _RNG.normal(size=(3, 2)).astype(np.float32)

_CALLS = itertools.count()


def _softmax(table, axis):
    raised = np.exp(table - table.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def _sensitive(x):
    """A layer whose sums round by the number of rows, and one that was made for smaller numbers."""
    return np.sin(1e3 * x.astype(np.float64) * (1 + 1e-7 * len(x)))


INDEPENDENT = {
    "a dense layer": lambda x: {"y": x @ _WEIGHTS},
    "a softmax over classes": lambda x: {"y": _softmax(x, 1)},
    "a constant": lambda x: {"y": np.ones((len(x), 2), np.float32)},
    "not a number": lambda x: {"y": x * np.nan},
    "infinite": lambda x: {"y": np.where(x > 0, np.inf, x)},
    "classes": lambda x: {"y": x.argmax(1)},
    "texts": lambda x: {"y": np.array([b"%d" % row.argmax() for row in x], object)},
    "halves that round": lambda x: {"y": (x @ _WEIGHTS + len(x) * 1e-4).astype(np.float16)},
    "sums that round": lambda x: {"y": x @ _WEIGHTS * np.float32(1 + 1e-7 * len(x))},
    "what makes much of rounding": lambda x: {"y": _sensitive(x)},
}

TOGETHER = {
    "what makes much of rounding, and a little of others": lambda x: {
        "y": _sensitive(x) + 0.05 * x.mean(0)
    },
    "what makes much of rounding beside a little of others": lambda x: {
        "a": _sensitive(x),
        "b": x + 1e-3 * x.mean(0),
    },
    "the same in one tensor": lambda x: {
        "y": np.concatenate([_sensitive(x), x + 1e-3 * x.mean(0)], axis=1)
    },
    "a little more each time": lambda x: {"y": x * (1 + 3e-4 * next(_CALLS))},
    "a softmax over candidates": lambda x: {"y": _softmax(x.sum(1), 0)},
    "the statistics of a batch": lambda x: {"y": x - x.mean(0)},
    "time in reverse": lambda x: {"y": x[::-1]},
    "a sum over time": lambda x: {"y": np.cumsum(x, 0)},
    "a neighbour's pixels": lambda x: {"y": x + np.roll(x, 1, 0)},
    "a number for each place": lambda x: {"y": x + np.arange(len(x))[:, None]},
    "every pair": lambda x: {"y": x @ x.T},
    "a rank among all": lambda x: {"y": x.sum(1).argsort().argsort()},
    "findings": lambda x: {"y": np.argwhere(x > 0)},
    "one answer": lambda x: {"y": x.sum(keepdims=True)},
    "no rows": lambda x: {"y": x.sum()},
    "rows that fit": lambda x: {"y": x[x.sum(1) > 0]},
    "what is as long as the longest": lambda x: {"y": x[:, : 1 + int((x > 0).sum(1).max())]},
    "chance": lambda x: {"y": np.random.default_rng().random(len(x))},  # never twice the same
    "a price beside a share": lambda x: {"y": np.stack([x[:, 0] * 1e4, _softmax(x[:, 1], 0)], 1)},
    "one output of two": lambda x: {"a": x, "b": x - x.mean(0)},
}


def _prove(call, *samples):
    samples = samples or (("normal values", {"x": _X}),)
    return prove(lambda inputs: call(inputs["x"]), samples)


@pytest.mark.parametrize("call", INDEPENDENT.values(), ids=INDEPENDENT)
def test_rows_that_compute_to_the_same_in_any_company_earn_a_batch(call):
    verdict = _prove(call)
    assert verdict.independent
    assert "normal values" in verdict.reason


@pytest.mark.parametrize("call", TOGETHER.values(), ids=TOGETHER)
def test_rows_that_see_each_other_do_not(call):
    verdict = _prove(call)
    assert not verdict.independent
    assert "output '" in verdict.reason


def test_what_is_true_of_one_kind_of_values_must_be_true_of_all():
    def positive(x):
        return {"y": x[x.sum(1) > 0]}

    ones = {"x": np.abs(_X)}
    assert _prove(positive, ("values of 0 to 1", ones)).independent
    assert not _prove(
        positive, ("values of 0 to 1", ones), ("normal values", {"x": _X})
    ).independent


@pytest.mark.parametrize("error", [InferenceFailed("no"), InvalidRequest("no")])
def test_values_that_do_not_compute_show_nothing(error):
    def refuse(x):
        if (x > 0).any():
            return {"y": x}
        raise error

    kinds = ("zeros", {"x": np.zeros((4, 3))}), ("normal values", {"x": np.abs(_X)})
    assert "(normal values)" in prove(lambda inputs: refuse(inputs["x"]), kinds).reason
    verdict = prove(lambda inputs: refuse(inputs["x"]), kinds[:1])
    assert not verdict.independent
    assert "no rows that were tried compute: no; publish it with --sample" in verdict.reason


def test_a_row_that_computes_in_company_only_is_not_independent():
    def two(x):
        if len(x) < 2:
            raise InferenceFailed("at least two")
        return {"y": x}

    assert "1 of its rows do not compute (at least two), alone" in _prove(two).reason


@given(
    rows=st.integers(2, 6),
    weight=st.floats(0.02, 1),
    dtype=st.sampled_from([np.float32, np.float64, np.float16, ml_dtypes.bfloat16]),
)
def test_a_little_of_the_others_is_seen(rows, weight, dtype):
    if np.dtype(dtype).itemsize == 2:
        weight = max(weight, 0.2)
    x = np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)

    def mixed(inputs):
        return {"y": (inputs["x"] + weight * inputs["x"].mean(0)).astype(dtype)}

    assert not prove(mixed, [("normal values", {"x": x})]).independent


@pytest.mark.parametrize("row", range(4))
def test_each_row_is_asked_alone(row):
    def other(x):
        return {"y": x + (len(x) == 1 and bool((x[0] == _X[row]).all()))}

    assert "alone" in _prove(other).reason


def test_small_numbers_that_round_beside_large_ones_are_the_same():
    a = np.array([[1e4, 0.5], [2e4, 0.25]], np.float32)
    noise = np.array([[1e-2, 1e-4], [-1e-2, -1e-4]], np.float32)
    assert same(a, a + noise)
    assert not same(a, a + np.array([[0, 0.2], [0, 0]], np.float32))


def test_tensors_are_the_same_within_what_rounds():
    a = np.array([1.0, 1e-9, np.nan, np.inf], np.float32)
    assert same(a, a * np.float32(1 + 1e-6))
    assert not same(a, a * np.float32(1.01))
    assert not same(a, np.array([1.0, 1e-9, 0, np.inf], np.float32))
    assert not same(a, a[:3])
    assert not same(np.array([1]), np.array([2]))
    assert not same(np.array([1]), np.array([1.0]))
    assert same(np.array([b"a"], object), np.array([b"a"], object))
