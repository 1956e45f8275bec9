"""Load a model version from its folder, whatever format it is in.

Called by model in a replica and by `strata publish` to try a model before it is published.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from serve.engines.devices import configure
from serve.engines.engine import EngineOptions
from serve.repository.layout import model_path

if TYPE_CHECKING:  # it imports TensorFlow, which must not happen before `configure`
    from serve.engines.tensorflow_engine import TensorFlowEngine


def load(folder: Path, options: EngineOptions) -> "TensorFlowEngine":
    """Load the version in `folder` (or a single file). Raises RepositoryError."""
    path = model_path(folder)
    configure(options)
    if path.is_dir():
        from serve.engines.saved_model import load_saved_model

        return load_saved_model(path)
    from serve.engines.keras_model import load_keras_model

    return load_keras_model(path)
