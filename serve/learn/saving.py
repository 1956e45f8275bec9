"""Save a trained network as a SavedModel whose inputs and outputs have lasting names.

Called by the reference models' files.
"""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


def save_functions(model: keras.Model, folder: Path, function: Any) -> None:
    """Save a tf.function over a model's variables as the default signature of a SavedModel.

    Only variables are tracked: the layers' own functions would be traced and saved for nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(folder), signatures=function)
