"""Bins of a statistic: which values share one, and that no value is lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serve.drift.bins import count, edges_of

_FLOATS = hnp.arrays(
    st.sampled_from(["float32", "float64"]),
    st.integers(0, 60),
    elements=st.one_of(
        st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]),
        st.floats(-1e6, 1e6, width=32),
    ),
)


@given(_FLOATS, _FLOATS, st.randoms())
def test_counts_are_merged_by_adding_them_in_any_order_of_rows(first, second, random):
    edges = edges_of(first)
    rows = [*first.tolist(), *second.tolist()]
    apart = count(first, edges) + count(second, edges)
    random.shuffle(rows)
    assert count(np.array(rows), edges).tolist() == apart.tolist()


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


@given(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=5, unique=True),
    st.sampled_from([1e-30, 1.0, 1e30]),
    st.integers(0, 2**32),
)
def test_the_last_bits_of_a_value_do_not_move_it_to_another_bin(shared, scale, seed):
    values = np.repeat(shared, 20) * scale
    noise = np.random.default_rng(seed).uniform(-1e-7, 1e-7, len(values)) * np.abs(values).max()
    edges = edges_of(values)
    assert count(values + noise, edges).tolist() == count(values, edges).tolist()


@pytest.mark.parametrize("values", [[], [np.nan, np.inf, -np.inf]])
def test_without_a_finite_value_there_is_one_bin_for_all_finite_ones(values):
    edges = edges_of(np.array(values))
    assert edges.tolist() == []
    assert count(np.array([-1.0, 0, 5, np.nan]), edges).tolist() == [3, 1]


def test_a_value_on_an_edge_belongs_to_the_bin_above():
    assert count(np.array([1.0, 2.0, 2.5]), np.array([1.0, 2.0])).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_edges_around_the_largest_number_are_finite(sign):
    edges = edges_of(np.full(20, sign * np.finfo(float).max))
    assert len(edges) == 1
    assert np.isfinite(edges).all()
