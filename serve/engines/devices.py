"""Threads, and GPUs with their memory, of the TensorFlow in this process.

Called by loading before the first model is loaded: TensorFlow takes these settings only until
it has touched a device, and left alone it takes all cores and the whole memory of every GPU.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

from serve.engines.cards import Card, visible_cards
from serve.errors import RepositoryError

log = logging.getLogger("ray.serve")

MIB = 2**20
GIB = 2**30

# What a process takes of a card beside TensorFlow's own memory: CUDA's context, and the code and
# workspaces of cuBLAS and cuDNN.
CONTEXT_BYTES = GIB
_LEAST_BYTES = 128 * MIB


@cache
def configure(num_threads: int, num_gpus: float) -> None:
    """Set threads and GPUs; the first call of a process decides, equal ones do nothing.

    `num_gpus` 0 hides every card, a number below 1 caps the memory of one to that share. Raises
    RepositoryError for a share that the card has not free.
    """
    with _environment(num_gpus):
        _import_tensorflow()
        import tensorflow as tf

        try:
            tf.config.threading.set_intra_op_parallelism_threads(num_threads)
            # One graph runs at a time, so a second scheduler thread would only contend.
            tf.config.threading.set_inter_op_parallelism_threads(1)
            _configure_gpus(num_gpus)
        except RuntimeError as err:
            # In a replica this comes first; after a training in the same process it is too late.
            log.info(
                "TensorFlow was in use already; its threads and GPUs stay as they are: %s", err
            )


@contextmanager
def _environment(num_gpus: float) -> Iterator[None]:
    """Set what CUDA reads once, when TensorFlow first looks for cards.

    Ray sets CUDA_VISIBLE_DEVICES for replicas that reserve a GPU and leaves all cards to the
    others. It is put back after, since what this process starts may use cards.
    """
    if num_gpus:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the driver's own order
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        yield
    finally:
        del os.environ["CUDA_VISIBLE_DEVICES"]
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _import_tensorflow() -> None:
    """Import TensorFlow without Keras, which is 40 % of the time and not needed for SavedModels.

    TensorFlow imports Keras for the optimizers of old SavedModels, and goes on where it cannot;
    saved_model sees to those itself. Engines for Keras' own formats import Keras afterwards.
    """
    if "tensorflow" in sys.modules or "keras" in sys.modules:
        return
    sys.modules["keras"] = None  # type: ignore[assignment]  # Python's word for "not importable"
    try:
        import tensorflow  # noqa: F401
    finally:
        del sys.modules["keras"]


def _configure_gpus(num_gpus: float) -> None:
    import tensorflow as tf

    if not num_gpus:
        tf.config.set_visible_devices([], "GPU")
        return
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        log.warning("num_gpus is %g and TensorFlow sees no GPU; it computes on the CPU", num_gpus)
    elif num_gpus >= 1:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    else:
        _cap_memory(gpus, num_gpus)


def _cap_memory(gpus: Sequence[object], share: float) -> None:
    import tensorflow as tf

    cards = visible_cards()
    if len(cards) != len(gpus):
        raise RepositoryError(
            f"TensorFlow sees {len(gpus)} GPUs and the driver {len(cards)}, so their memory cannot "
            "be told apart; grant whole GPUs with num_gpus: 1"
        )
    for gpu, card in zip(gpus, cards, strict=True):
        limit = memory_limit_mib(card, share)
        memory = tf.config.LogicalDeviceConfiguration(memory_limit=limit)
        tf.config.set_logical_device_configuration(gpu, [memory])


def memory_limit_mib(card: Card, share: float) -> int:
    """Return the MiB that TensorFlow may take of a share of a card, CUDA's context set aside.

    Raises RepositoryError if the share is too small for the context, or is not free.
    """
    granted = int(card.total_bytes * share)
    if granted < CONTEXT_BYTES + _LEAST_BYTES:
        least = (CONTEXT_BYTES + _LEAST_BYTES) / card.total_bytes
        raise RepositoryError(
            f"num_gpus: {share:g} of {card.name} is {_gib(granted)}, which CUDA itself needs for "
            f"its context and libraries; grant at least num_gpus: {min(1.0, least + 0.005):.2f}"
        )
    if card.free_bytes < granted - CONTEXT_BYTES // 4:  # a neighbour's context may be larger
        raise RepositoryError(
            f"{card.name} has {_gib(card.free_bytes)} free of {_gib(card.total_bytes)}, and "
            f"num_gpus: {share:g} grants {_gib(granted)}; something that Ray "
            "does not know of holds the rest (nvidia-smi shows it)"
        )
    return (granted - CONTEXT_BYTES) // MIB


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
