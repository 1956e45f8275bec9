"""Threads and GPU memory of the TensorFlow in this process.

Called by loading before the first model is loaded: TensorFlow takes these settings only until
it has touched a device, and left alone it takes all cores and the whole memory of every GPU.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError

log = logging.getLogger("ray.serve")

MIB = 2**20


@cache
def configure(options: EngineOptions) -> None:
    """Set threads and GPU memory; the first call of a process decides, equal ones do nothing."""
    _import_tensorflow()
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(options.num_threads)
        # One graph runs at a time, so a second scheduler thread would only contend.
        tf.config.threading.set_inter_op_parallelism_threads(1)
        _configure_gpus(tf.config.list_physical_devices("GPU"), options.gpu_share)
    except RuntimeError as err:
        # In a replica this comes first; after a training in the same process it comes too late.
        log.info("TensorFlow was in use already; its threads stay as they are: %s", err)


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


def _configure_gpus(gpus: Sequence[object], share: float | None) -> None:
    import tensorflow as tf

    for index, gpu in enumerate(gpus):
        if share is None:
            tf.config.experimental.set_memory_growth(gpu, True)
        else:
            limit = memory_limit_mib(index, share, _total_memory)
            memory = tf.config.LogicalDeviceConfiguration(memory_limit=limit)
            tf.config.set_logical_device_configuration(gpu, [memory])


def memory_limit_mib(index: int, share: float, total_memory: Callable[[int], int]) -> int:
    """Return the MiB that a share of GPU `index` comes to; `total_memory` tells its bytes."""
    return max(1, int(total_memory(index) * share) // MIB)


def _total_memory(index: int) -> int:
    """Return a GPU's memory in bytes, as the driver tells it.

    TensorFlow knows only what is free once it has taken the card, which is too late.
    """
    import subprocess

    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
        return int(lines[index]) * MIB
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError) as err:
        raise RepositoryError(
            f"the memory of GPU {index} is unknown, nvidia-smi does not tell it; "
            "grant whole GPUs with num_gpus: 1"
        ) from err
