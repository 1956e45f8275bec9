"""TensorFlow's own settings, read back from a context that no model was loaded in yet.

Cards are made up, at the one place where TensorFlow asks the driver for them, and so is nvidia-smi;
what TensorFlow makes of the settings is the configuration that its runtime would start with.
"""

import logging

import pytest

from serve.engines.devices import MIB, configure, memory_limit_mib
from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError


@pytest.fixture
def fresh(monkeypatch):
    """TensorFlow with so many cards, untouched, as a process of its own would find it.

    Returns the configuration that its runtime starts with, as a function.
    """
    configure(EngineOptions())  # what is imported and settled once in this process is so now
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
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name on PATH that prints some lines, one a card."""

    def install(*lines):
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_threads_are_those_that_the_replica_may_take(fresh):
    config = fresh()
    configure(EngineOptions(num_threads=3))
    assert config().intra_op_parallelism_threads == 3
    assert config().inter_op_parallelism_threads == 1


def test_the_first_call_decides_and_equal_ones_do_nothing(fresh):
    config = fresh()
    configure(EngineOptions(num_threads=3))
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(5)  # what somebody else did since
    configure(EngineOptions(num_threads=3))
    assert config().intra_op_parallelism_threads == 5


def test_whole_cards_are_filled_as_memory_is_needed(fresh):
    config = fresh(cards=2)
    configure(EngineOptions())
    import tensorflow as tf

    for card in tf.config.list_physical_devices("GPU"):
        assert tf.config.experimental.get_memory_growth(card)
    assert config().gpu_options.allow_growth
    assert not config().gpu_options.experimental.virtual_devices


def test_a_share_of_a_card_is_a_limit_of_its_memory(fresh, nvidia_smi):
    nvidia_smi("16384", "24576")
    config = fresh(cards=2)
    configure(EngineOptions(gpu_share=0.25))
    limits = [list(d.memory_limit_mb) for d in config().gpu_options.experimental.virtual_devices]
    assert limits == [[4096], [6144]]


def test_a_share_is_of_no_matter_where_there_is_no_card(fresh, monkeypatch):
    monkeypatch.setenv("PATH", "")
    config = fresh(cards=0)
    configure(EngineOptions(gpu_share=0.25))
    assert not config().gpu_options.experimental.virtual_devices


@pytest.mark.parametrize("lines", [(), ("16384",), ("16384", "[N/A]"), ("16384", "No devices")])
def test_a_card_that_nvidia_smi_does_not_tell_of_is_named_with_the_way_out(
    fresh, nvidia_smi, lines
):
    nvidia_smi(*lines)
    fresh(cards=2)
    missing = 1 if lines else 0
    with pytest.raises(
        RepositoryError, match=f"the memory of GPU {missing} is unknown.*num_gpus: 1"
    ):
        configure(EngineOptions(gpu_share=0.5))


def test_without_nvidia_smi_a_share_is_refused_with_the_way_out(fresh, monkeypatch):
    monkeypatch.setenv("PATH", "")
    fresh(cards=1)
    with pytest.raises(RepositoryError, match="num_gpus: 1"):
        configure(EngineOptions(gpu_share=0.5))


def test_where_tensorflow_was_in_use_already_its_settings_stay_and_the_log_says_so(caplog):
    import tensorflow as tf

    tf.add(1, 1).numpy()
    before = tf.config.threading.get_intra_op_parallelism_threads()
    caplog.set_level(logging.INFO, "ray.serve")
    configure(EngineOptions(num_threads=before + 7))
    assert "its threads stay as they are" in caplog.text
    assert tf.config.threading.get_intra_op_parallelism_threads() == before


@pytest.mark.parametrize(
    ("index", "share", "limit"), [(0, 0.5, 8192), (1, 0.25, 6144), (0, 1e-9, 1)]
)
def test_a_share_of_a_gpu_becomes_a_limit_of_its_own_card(index, share, limit):
    cards = {0: 16384 * MIB, 1: 24576 * MIB}
    assert memory_limit_mib(index, share, cards.__getitem__) == limit
