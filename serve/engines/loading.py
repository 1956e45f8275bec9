"""Load a model version from its folder, whatever format it is in.

Called by model in a replica and by `strata publish` to try a model before it is published.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from serve.engines.devices import configure
from serve.engines.engine import UNSET, EngineOptions, ModelOptions
from serve.errors import RepositoryError
from serve.repository.layout import model_path
from serve.repository.manifest import read_manifest

if TYPE_CHECKING:  # it imports TensorFlow, which must not happen before `configure`
    from serve.engines.tensorflow_engine import TensorFlowEngine


def load(folder: Path, options: EngineOptions, model: ModelOptions = UNSET) -> "TensorFlowEngine":
    """Load the version in `folder` (or a single file), and see what its rows are to each other.

    Raises RepositoryError.
    """
    path = model_path(folder)
    configure(options)
    manifest = read_manifest(folder)
    published = manifest.signature.name if manifest and manifest.signature else None
    engine = _load(path, model.signature or published)
    from serve.engines.own_samples import read_samples

    engine.earn_batching(model, manifest.rows if manifest else {}, read_samples(folder, path))
    return engine


def _load(path: Path, signature: str | None) -> "TensorFlowEngine":
    if path.is_dir():
        from serve.engines.saved_model import load_saved_model

        return load_saved_model(path, signature)
    from serve.engines.keras_model import SIGNATURE, load_keras_model

    if signature not in (None, SIGNATURE):
        raise RepositoryError(
            f"{path}: a Keras file has the one signature {SIGNATURE}, not '{signature}'"
        )
    return load_keras_model(path)
