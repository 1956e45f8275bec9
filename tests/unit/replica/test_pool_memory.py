"""Which model of a pool goes when there is too little memory."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engines.memory import resident_bytes
from serve.replica import pool_memory
from serve.replica.pool_memory import Memory, expected_bytes


@dataclass(eq=False)
class Resident:
    used: float = 0.0
    loaded: float = -1e9  # long ago
    bytes: int = 0
    is_loaded: bool = True
    is_busy: bool = False


def test_without_a_bound_there_is_always_room(monkeypatch):
    memory = Memory()
    monkeypatch.setattr(pool_memory, "resident_bytes", lambda: 10**15)
    assert memory.has_room(10**15)
    memory.limit_bytes = 10**15 + 5
    assert memory.has_room(5)
    assert not memory.has_room(6)


def test_the_memory_of_this_process_is_read():
    before = resident_bytes()
    held = bytearray(b"x") * 50_000_000
    assert 40_000_000 < resident_bytes() - before < 200_000_000
    assert len(held) == 50_000_000


def test_who_was_not_asked_for_longest_goes_first():
    old, older, newest = Resident(used=2), Resident(used=1), Resident(used=3)
    assert Memory().victim([old, older, newest]) is older


@pytest.mark.parametrize(
    "stays",
    [
        {"is_busy": True},
        {"is_loaded": False},
        {"loaded": time.monotonic() + 1e6},  # it has only just come
    ],
)
def test_one_that_is_at_work_or_has_just_come_stays(stays):
    others = [Resident(used=2), Resident(used=3)]
    assert Memory().victim([Resident(used=1, **stays), *others]) is others[0]


@given(st.lists(st.builds(Resident, st.integers(0, 9), is_loaded=st.booleans())), st.integers(0, 3))
def test_as_many_stay_as_are_to(residents, keep):
    memory = Memory()
    loaded = sum(each.is_loaded for each in residents)
    while (victim := memory.victim(residents, keep)) is not None:
        victim.is_loaded = False
    assert sum(each.is_loaded for each in residents) == min(keep, loaded)


def test_one_that_was_never_loaded_is_expected_to_take_what_the_others_do():
    known = [Resident(bytes=10), Resident(bytes=30)]
    assert expected_bytes(Resident(), [*known, Resident()]) == 20
    assert expected_bytes(known[1], known) == 30
    assert expected_bytes(Resident(), [Resident()]) == 0
