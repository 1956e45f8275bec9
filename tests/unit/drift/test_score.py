"""The population stability index: its signs, its zero, and what chance makes of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serve.drift.bins import BINS
from serve.drift.score import LEAST_ROWS, expected_index, stability_index

_PAIRS = st.integers(1, 12).flatmap(
    lambda bins: st.tuples(
        *(hnp.arrays(np.int64, bins, elements=st.integers(0, 10_000)) for _ in range(2))
    )
)


@given(_PAIRS)
def test_it_is_finite_symmetric_never_negative_and_zero_for_equal_counts(pair):
    first, second = pair
    score = stability_index(first, second)
    assert np.isfinite(score)
    assert score >= 0
    assert score == pytest.approx(stability_index(second, first))
    assert stability_index(first, first) == 0


def test_it_is_the_formula_where_there_are_many_rows():
    a, b = np.array([200_000, 300_000, 500_000]), np.array([300_000, 300_000, 400_000])
    by_hand = 0.1 * np.log(3 / 2) + 0.1 * np.log(5 / 4)
    assert abs(stability_index(a, b) - by_hand) < 1e-5


def test_the_same_rows_twice_as_often_are_no_drift():
    counts = np.array([0, 50, 100, 350, 0])
    assert stability_index(counts, 2 * counts) < 1e-4


def test_few_rows_of_the_same_population_score_as_high_as_expected():
    random = np.random.default_rng(0)
    for rows, baseline_rows in ((100, 1_000), (500, 500), (1_000, 10_000)):
        scores = [
            stability_index(
                random.multinomial(rows, [1 / BINS] * BINS),
                random.multinomial(baseline_rows, [1 / BINS] * BINS),
            )
            for _ in range(2_000)
        ]
        expected = expected_index(BINS, rows, baseline_rows)
        assert abs(np.mean(scores) / expected - 1) < 0.05


def test_at_the_least_rows_chance_seldom_makes_a_tenth_of_one_statistic():
    random = np.random.default_rng(1)
    sides = random.multinomial(LEAST_ROWS, [1 / BINS] * BINS, size=(2, 4_000))
    scores = np.array([stability_index(a, b) for a, b in zip(*sides, strict=True)])
    assert expected_index(BINS, LEAST_ROWS, LEAST_ROWS) < 0.04
    assert (scores > 0.1).mean() < 0.006
    assert scores.max() < 0.25
