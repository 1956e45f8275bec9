"""The SavedModel's signature on one thread: the engine that every peer's server calls.

Imported by the server programs beside it, in their own environments, and by in_process.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def load(folder: str | Path) -> Callable[[Any], Any]:
    """Return a function from images [N, 28, 28, 1] to probabilities [N, 10], both float32."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]

    def infer(images: Any, owner: Any = loaded) -> Any:  # whose variables live as long as this
        outputs = signature(image=tf.constant(images, tf.float32))
        return outputs["probabilities"].numpy()

    infer(np.zeros((1, 28, 28, 1), np.float32))
    return infer
