"""What grows is told from what goes up and down."""

import random

import pytest
from reliability.slopes import slope_of

MINUTES = [60.0 * index for index in range(120)]


def test_a_leak_is_found_with_its_size_an_hour():
    chance = random.Random(0)
    slope = slope_of(MINUTES, [500 + at / 3600 * 30 + chance.gauss(0, 2) for at in MINUTES])
    assert slope.grows
    assert slope.per_hour == pytest.approx(30, abs=2)
    assert slope.verdict == f"grows by {slope.per_hour:.3g} an hour"


def test_noise_is_flat():
    grown = 0
    for seed in range(500):
        chance = random.Random(seed)
        grown += slope_of(MINUTES, [500 + chance.gauss(0, 20) for _ in MINUTES]).grows
    assert grown <= 5


def test_a_saw_that_returns_is_flat():
    """As memory is that a replica takes for two versions, until the old one goes."""
    for length in (5, 10, 15):
        slope = slope_of(MINUTES, [500 + 20 * (index % length) for index in range(120)])
        assert not slope.grows, length


def test_what_wanders_is_not_taken_for_growth_by_its_many_samples():
    grown = 0
    for seed in range(50):
        chance, value, values = random.Random(seed), 500.0, []
        for _ in MINUTES:
            value = 500 + 0.9 * (value - 500) + chance.gauss(0, 5)
            values.append(value)
        grown += slope_of(MINUTES, values).grows
    assert grown <= 5


def test_a_start_that_fills_its_caches_is_flat():
    values = [300 + 200 * min(at / MINUTES[25], 1) for at in MINUTES]
    slope = slope_of(MINUTES, values)
    assert slope.verdict == "flat"
    assert slope.mean == 500


def test_what_grows_by_next_to_nothing_is_flat():
    assert not slope_of(MINUTES, [1000 + at / 3600 for at in MINUTES]).grows


def test_what_shrinks_does_not_grow():
    assert not slope_of(MINUTES, [1000 - at for at in MINUTES]).grows


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 900.0]])
def test_few_samples_tell_nothing(values):
    assert not slope_of(MINUTES[: len(values)], values).grows
