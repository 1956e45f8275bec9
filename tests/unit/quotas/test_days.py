from hypothesis import given
from hypothesis import strategies as st

from serve.quotas.days import DAY_S, Days, day_of, left_of_day_s


@given(st.floats(0, 1e11))
def test_a_day_ends_within_a_day_and_another_one_begins_then(now):
    left_s = left_of_day_s(now)
    assert 0 < left_s <= DAY_S
    assert day_of(now + left_s + 1e-3) == day_of(now) + 1


def test_what_was_spent_on_a_day_is_found_again_when_a_clock_comes_back_to_it():
    days = Days()
    days.add(5, "a", 3.0)
    days.add(6, "a", 1.0)
    days.add(5, "a", 2.0)
    assert (days.spent(5, "a"), days.spent(6, "a"), days.spent(7, "a")) == (5.0, 1.0, 0.0)


def test_nothing_is_had_back():
    days = Days()
    days.add(5, "a", 3.0)
    days.add(5, "a", -10.0)
    assert days.spent(5, "a") == 3.0


def test_few_days_are_kept():
    days = Days()
    for day in range(100):
        days.add(day, "a", 1.0)
    kept = [day for day in range(100) if days.keys(day)]
    assert kept == [97, 98, 99]
