"""From rows to numbers a row and to counts by bins: whatever the tensor is."""

from typing import get_args

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serve.drift.bins import BINS, count, edges_of
from serve.drift.statistics import Kind, statistics
from tests.unit.protocols.strategies import bfloats, numbers, strings, text

KINDS = get_args(Kind)
_FLOATS = hnp.arrays(
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 60),
    elements=st.one_of(
        st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]),
        st.floats(-1e6, 1e6, width=32),
    ),
)


@given(st.sampled_from(KINDS), st.one_of(numbers(finite=False), bfloats(), strings(), text()))
def test_any_tensor_has_one_number_a_row_and_every_row_falls_into_one_bin(kind, array):
    for values in statistics(kind, array).values():
        assert values.shape == (len(array),)
        assert values.dtype.kind == "f"
        edges = edges_of(values)
        assert np.isfinite(edges).all()
        assert (np.diff(edges) > 0).all()
        assert len(edges) <= 2 * BINS
        assert count(values, edges).sum() == len(array)


@given(_FLOATS, _FLOATS, st.randoms())
def test_counts_are_merged_by_adding_them_in_any_order_of_rows(first, second, random):
    edges = edges_of(first)
    rows = [*first.tolist(), *second.tolist()]
    apart = count(first, edges) + count(second, edges)
    random.shuffle(rows)
    assert count(np.array(rows), edges).tolist() == apart.tolist()


@given(numbers(), st.randoms())
def test_a_rows_statistics_do_not_depend_on_the_rows_beside_it(array, random):
    order = list(range(len(array)))
    random.shuffle(order)
    for kind in KINDS:
        together = statistics(kind, array[order])
        for name, values in statistics(kind, array).items():
            np.testing.assert_array_equal(together[name], values[order])


@given(_FLOATS)
def test_nan_and_inf_have_the_last_bin(values):
    counts = count(values, np.array([0.0]))
    assert counts[-1] == (~np.isfinite(values)).sum()


def test_many_values_are_parted_into_tenths():
    values = np.random.default_rng(0).permutation(1000).astype(float)
    assert count(values, edges_of(values)).tolist() == [100] * 10 + [0]


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e30, 1.7e308])
def test_a_constant_is_parted_from_what_is_below_and_above(constant):
    edges = edges_of(np.full(50, constant))
    around = np.array([constant - abs(constant) - 1, constant, constant * (1 + 1e-9)])
    assert count(around, edges)[:3].tolist() == [1, 2, 0]
    with np.errstate(over="ignore"):
        above = np.array([constant + abs(constant) / 1e3 + 1])
    assert count(above, edges)[1] == 0


def test_few_values_and_one_that_many_rows_share_have_bins_of_their_own():
    classes = np.arange(10.0).repeat([5, 1, 5, 5, 5, 5, 5, 5, 5, 9])
    counts = count(classes, edges_of(classes))
    assert sorted(counts[counts > 0]) == [1, 5, 5, 5, 5, 5, 5, 5, 5, 9]
    half = np.concatenate([np.zeros(500), np.linspace(0.1, 1, 500)])
    assert count(half, edges_of(half)).tolist() == [0, 500, 0, 100, 100, 100, 100, 100, 0]


def test_a_large_row_is_its_mean_and_deviation_and_a_small_one_its_numbers():
    images = np.array([[[0, 2], [4, 6]]], np.uint8)
    assert {k: v.tolist() for k, v in statistics("summary", images).items()} == {
        "mean": [3.0],
        "deviation": [pytest.approx(np.std([0, 2, 4, 6]))],
    }
    features = statistics("features", np.array([[True, False]]))
    assert {name: values.tolist() for name, values in features.items()} == {"0": [1.0], "1": [0.0]}


def test_probabilities_are_the_class_and_how_sure_the_model_is():
    table = np.array([[0.25, 0.75], [np.nan, np.nan]], ml_dtypes.bfloat16)
    seen = statistics("classes", table)
    np.testing.assert_array_equal(seen["class"], [1, np.nan])
    np.testing.assert_array_equal(seen["max_probability"], [0.75, np.nan])


def test_text_is_its_bytes_and_its_script_and_words_are_hashed():
    texts = np.array(["für".encode(), b"", "да".encode(), "str"], object)
    seen = statistics("text", texts)
    assert seen["length"].tolist() == [4, 0, 4, 3]
    assert seen["non_ascii"].tolist() == [0.5, 0, 1, 0]
    words = statistics("categories", np.array([b"de", b"en", b"de"], object))["word"]
    assert words[0] == words[2] != words[1]
