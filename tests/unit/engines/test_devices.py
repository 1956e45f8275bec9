"""TensorFlow's own settings, read back from a context that no model was loaded in yet.

Cards are made up, at the one place where TensorFlow asks for them, and so is the driver's library;
what TensorFlow makes of the settings is the configuration that its runtime would start with.
"""

import logging
import os
import sys

import pytest

from serve.engines import devices
from serve.engines.cards import Card
from serve.engines.devices import GIB, MIB, configure, memory_limit_mib
from serve.errors import RepositoryError
from tests.unit.engines.fake_nvml import FakeCard, FakeNvml


@pytest.fixture
def fresh(monkeypatch):
    """TensorFlow with so many cards, untouched, as a process of its own would find it.

    Returns the configuration that its runtime starts with, as a function.
    """
    configure(1, 0)  # what is imported and settled once in this process is so now
    from tensorflow.python.eager import context

    def start(cards=0):
        devices = [b"/physical_device:CPU:0"]
        devices += [b"/physical_device:GPU:%d" % index for index in range(cards)]
        monkeypatch.setattr(context.pywrap_tfe, "TF_ListPhysicalDevices", lambda: devices)
        monkeypatch.setattr(context, "_context", context.Context())
        return lambda: context.context().config

    configure.cache_clear()
    yield start
    configure.cache_clear()


@pytest.fixture
def cards(monkeypatch):
    """Cards of so many bytes in all, as the driver's library tells of them."""

    def install(*totals, free=None):
        made = [FakeCard(f"GPU-{i}", total, free=free) for i, total in enumerate(totals)]
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*made))

    return install


def test_threads_are_those_that_the_replica_may_take(fresh):
    config = fresh()
    configure(3, 0)
    assert config().intra_op_parallelism_threads == 3
    assert config().inter_op_parallelism_threads == 1


def test_the_first_call_decides_and_equal_ones_do_nothing(fresh):
    config = fresh()
    configure(3, 0)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(5)  # what somebody else did since
    configure(3, 0)
    assert config().intra_op_parallelism_threads == 5


def test_without_a_gpu_of_its_own_a_model_sees_none(fresh, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    fresh(cards=2)
    seen = []
    monkeypatch.setattr(
        devices, "_import_tensorflow", lambda: seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    )
    configure(1, 0)
    import tensorflow as tf

    assert tf.config.get_visible_devices("GPU") == []
    assert seen == ["-1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_cards_that_are_hidden_from_tensorflow_are_not_from_what_the_process_starts(
    fresh, monkeypatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fresh(cards=1)
    configure(1, 0)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_whole_cards_are_filled_as_memory_is_needed(fresh):
    config = fresh(cards=2)
    configure(1, 2)
    import tensorflow as tf

    for card in tf.config.list_physical_devices("GPU"):
        assert tf.config.experimental.get_memory_growth(card)
    assert config().gpu_options.allow_growth
    assert not config().gpu_options.experimental.virtual_devices


def test_a_share_of_a_card_is_a_limit_of_its_memory(fresh, cards):
    cards(16 * GIB, 24 * GIB)
    config = fresh(cards=2)
    configure(1, 0.25)
    limits = [list(d.memory_limit_mb) for d in config().gpu_options.experimental.virtual_devices]
    assert limits == [[3 * 1024], [5 * 1024]]


def test_a_gpu_that_tensorflow_does_not_see_is_told_in_the_log(fresh, caplog):
    config = fresh(cards=0)
    configure(1, 0.25)
    assert not config().gpu_options.experimental.virtual_devices
    assert "num_gpus is 0.25 and TensorFlow sees no GPU" in caplog.text


def test_a_share_that_is_refused_once_can_be_granted_later(fresh, cards):
    cards(16 * GIB, free=GIB)
    config = fresh(cards=1)
    with pytest.raises(RepositoryError, match=r"1\.0 GiB free of 16\.0 GiB"):
        configure(1, 0.5)
    cards(16 * GIB)
    configure(1, 0.5)
    assert list(config().gpu_options.experimental.virtual_devices[0].memory_limit_mb) == [7 * 1024]


def test_cards_that_cannot_be_told_apart_are_refused_with_the_way_out(fresh, cards):
    cards(16 * GIB)
    fresh(cards=2)
    with pytest.raises(RepositoryError, match=r"sees 2 GPUs and the driver 1.*num_gpus: 1"):
        configure(1, 0.5)


def test_where_tensorflow_was_in_use_already_its_settings_stay_and_the_log_says_so(caplog):
    import tensorflow as tf

    tf.add(1, 1).numpy()
    before = tf.config.threading.get_intra_op_parallelism_threads()
    caplog.set_level(logging.INFO, "ray.serve")
    configure(before + 7, 0)
    assert "its threads and GPUs stay as they are" in caplog.text
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


@pytest.mark.parametrize(("share", "limit"), [(0.5, 7), (0.25, 3), (0.9, 13)])
def test_a_share_leaves_room_for_what_cuda_itself_takes(share, limit):
    card = Card("GPU 0", 16 * GIB, 16 * GIB)
    assert memory_limit_mib(card, share) // 1024 == limit


def test_two_halves_of_a_card_fit_although_contexts_differ_in_size():
    card = Card("GPU 0", 80 * GIB, 40 * GIB - 200 * MIB)
    assert memory_limit_mib(card, 0.5) == 39 * 1024


def test_a_share_that_would_leave_nothing_is_refused_with_the_least_that_would_do():
    with pytest.raises(RepositoryError, match=r"num_gpus: 0.05 of GPU 0 is 0.8 GiB.*0.08"):
        memory_limit_mib(Card("GPU 0", 16 * GIB, 16 * GIB), 0.05)


def test_a_share_that_others_hold_is_refused_with_what_is_free():
    card = Card("GPU 0", 80 * GIB, 30 * GIB)
    with pytest.raises(RepositoryError, match=r"GPU 0 has 30.0 GiB free.*grants 40.0 GiB"):
        memory_limit_mib(card, 0.5)
