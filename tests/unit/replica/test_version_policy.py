import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import ModelNotFound
from serve.replica.version_policy import resolve, select

NUMBERS = st.sets(st.integers(1, 50))


@given(NUMBERS, st.integers(1, 60))
def test_latest_takes_the_highest(available, count):
    chosen = select(available, latest=count)
    assert len(chosen) == min(count, len(available))
    assert all(other < min(chosen) for other in available - set(chosen))


@given(NUMBERS, st.lists(st.integers(1, 50)))
def test_specific_takes_what_is_listed_and_there(available, listed):
    assert set(select(available, specific=listed)) == available & set(listed)


@given(NUMBERS)
def test_without_a_policy_all_are_taken_and_the_newest_is_first(available):
    assert select(available) == sorted(available, reverse=True)


@pytest.mark.parametrize(
    ("version", "label", "chosen"), [(None, None, 5), (3, None, 3), (None, "stable", 4)]
)
def test_a_version_or_a_label_or_neither_chooses(version, label, chosen):
    assert resolve("digits", [3, 4, 5], {"stable": 4}, version, label) == chosen


@pytest.mark.parametrize(
    ("version", "label", "message"),
    [
        (7, None, r"no version 7 .*\(available: 3, 4, 5\)"),
        (None, "canary", r"canary .*\(labels: old, stable\)"),
        (None, "old", r"no version 2 .*\(available: 3, 4, 5\)"),
    ],
)
def test_what_is_not_loaded_is_not_found_and_says_what_is(version, label, message):
    with pytest.raises(ModelNotFound, match=message):
        resolve("digits", [3, 4, 5], {"stable": 4, "old": 2}, version, label)
