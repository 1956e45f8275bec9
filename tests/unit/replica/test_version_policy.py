import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import ModelNotFound
from serve.replica.version_policy import in_the_way, resolve, select

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
    ("loaded", "wanted", "next_one", "going"),
    [
        ([1], [2], 2, [1]),
        ([1, 2], [3, 2], 3, [1]),
        ([1, 2], [4, 3], 4, [1]),
        ([2, 4], [4, 3], 3, [2]),
        ([1, 2, 3], [4], 4, [1, 2, 3]),
        ([2], [2, 1], 1, []),  # one more is wanted than there is
        ([], [2], 2, []),
        ([2], [2], 2, [2]),  # as it was loaded from other files
        ([1, 2], [3, 2], 2, [2]),
    ],
)
def test_as_many_go_before_one_is_loaded_as_make_room_for_it(loaded, wanted, next_one, going):
    assert in_the_way(loaded, wanted, next_one) == going


@given(NUMBERS, NUMBERS)
def test_never_more_are_loaded_than_were_or_are_wanted_and_those_wanted_come(loaded, wanted):
    now, most = set(loaded), max(len(loaded), len(wanted))
    for number in sorted(wanted - loaded, reverse=True):
        going = set(in_the_way(now, wanted, number))
        assert not going & wanted
        now = (now - going) | {number}
        assert len(now) <= most
    assert wanted <= now


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
