"""A training that gives the same weights whatever was trained before it in the process.

Called by the reference models' files.
"""

import keras
import tensorflow as tf

SEED = 42


def begin() -> None:
    """Forget the networks of earlier trainings, sow all seeds, and allow no op that varies."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
