"""Which cards a process may see, and their memory; the driver's library is made up."""

import sys
import threading

import pynvml
import pytest

from serve.engines.cards import Card, visible_cards
from serve.errors import RepositoryError
from tests.unit.engines.fake_nvml import GIB, FakeCard, FakeNvml

_SMALL = FakeCard("GPU-aaaa-1", 16 * GIB)
_LARGE = FakeCard("GPU-aabb-2", 80 * GIB, reserved=GIB, free=30 * GIB)
_CUT = FakeCard(
    "GPU-cccc-3",
    80 * GIB,
    slices=[None, FakeCard("MIG-11", 10 * GIB), FakeCard("MIG-22", 20 * GIB, free=5 * GIB)],
)


@pytest.fixture
def nvml(monkeypatch):
    """A driver with a small card, a large one and one that is cut into slices."""
    library = FakeNvml(_SMALL, _LARGE, _CUT)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library


@pytest.mark.parametrize(
    ("visible", "gib"),
    [
        (None, [16, 79, 10]),
        ("1,0", [79, 16]),
        (" 1 , 0 ", [79, 16]),
        ("GPU-aabb-2", [79]),
        ("GPU-aab", [79]),
        ("MIG-22", [20]),
        ("MIG-22,MIG-11", [20, 10]),
        ("2", [10]),
        ("", []),
        ("-1", []),
        ("0,-1,1", [16]),
        ("0,7,1", [16]),
        ("GPU-aa", []),
        ("MIG-33", []),
        ("MIG-", []),
    ],
)
def test_the_cards_are_those_that_cuda_shows_in_its_order(nvml, monkeypatch, visible, gib):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [card.total_bytes / GIB for card in visible_cards()] == gib
    assert nvml.open == 0


def test_a_slice_has_its_own_memory_and_a_card_what_the_driver_leaves_of_it(nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-22,1")
    assert visible_cards() == [
        Card("MIG-22", 20 * GIB, 5 * GIB),
        Card("GPU 1", 79 * GIB, 30 * GIB),
    ]


def test_what_the_driver_says_is_why_nothing_is_known(nvml, monkeypatch):
    def no_library():
        raise pynvml.NVMLError_LibraryNotFound()

    monkeypatch.setattr(nvml, "nvmlInit", no_library)
    with pytest.raises(RepositoryError, match=r"NVML Shared Library Not Found.*num_gpus: 1"):
        visible_cards()


def test_a_driver_that_never_answers_is_given_up(nvml, monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(nvml, "nvmlInit", answered.wait)
    with pytest.raises(RepositoryError, match=r"no answer within 0\.05 s"):
        visible_cards(timeout_s=0.05)
    answered.set()
