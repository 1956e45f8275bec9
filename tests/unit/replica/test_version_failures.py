import pytest

from serve.replica import version_failures
from serve.replica.version_failures import FIRST_RETRY_S, LONGEST_RETRY_S, Failures


@pytest.fixture
def clock(monkeypatch):
    """The time that failures see, which a test moves on."""

    class Clock:
        now = 1_000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(version_failures, "time", clock)
    return clock


def test_a_version_is_tried_again_ever_more_seldom_and_never_given_up(clock):
    failures = Failures()
    waits = []
    for _ in range(1_100):  # some days
        failures.note(7, 0, "away")
        began = clock.now
        while failures.is_waiting(7):
            assert not failures.is_due
            clock.now += FIRST_RETRY_S
        assert failures.is_due
        waits.append(clock.now - began)
    assert waits[:4] == [5, 10, 20, 40]
    assert waits[-1] == LONGEST_RETRY_S


def test_one_that_cost_another_is_never_due_by_itself(clock):
    failures = Failures()
    failures.note(7, 0, "broken", cost_another=True)
    failures.note(8, 0, "away")
    assert (failures.cost_another(7), failures.cost_another(8)) == (True, False)
    failures.forget(8)
    clock.now += LONGEST_RETRY_S
    assert not failures.is_due
    failures.keep({7: "changed"})
    assert not failures.cost_another(7)


def test_a_reason_is_new_once_and_the_latest_one_is_kept(clock):
    failures = Failures()
    assert [failures.note(7, 0, reason) for reason in ("a", "a", "b", "a")] == [
        True,
        False,
        True,
        True,
    ]
    failures.note(8, 0, "c")
    assert failures.reasons == {7: "a", 8: "c"}


def test_what_was_loaded_has_gone_or_changed_is_forgotten(clock):
    failures = Failures()
    for number in (1, 2, 3, 4):
        failures.note(number, "old", "broken")
    failures.forget(1)
    failures.keep({2: "old", 3: "new"})
    assert failures.reasons == {2: "broken"}
    assert [failures.is_waiting(number) for number in (1, 2, 3, 4)] == [False, True, False, False]
    assert not Failures().is_due
