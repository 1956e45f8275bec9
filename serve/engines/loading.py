"""Load a model version from its folder, whatever format it is in.

Called by model in a replica and by `strata publish` to try a model before it is published.
"""

import importlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from serve.engines.devices import configure
from serve.engines.engine import EngineOptions
from serve.engines.function_engine import FunctionEngine
from serve.engines.own_samples import read_samples
from serve.errors import RepositoryError
from serve.repository.layout import ONNX, model_path
from serve.repository.manifest import read_manifest


def load(folder: Path, options: EngineOptions) -> FunctionEngine:
    """Load the version in `folder` (or a single file), and see what its rows are to each other.

    Raises RepositoryError.
    """
    path = model_path(folder)
    if path.suffix != ONNX:
        configure(options.num_threads, options.num_gpus)
    _import(options.imports)
    manifest = read_manifest(folder)
    published = manifest.signature.name if manifest and manifest.signature else None
    chosen = replace(options, signature=options.signature or published)
    engine = _load(path, chosen, has_manifest=manifest is not None)
    known = manifest.rows if manifest else {}
    engine.earn_batching(options.rows, known, read_samples(folder, path))
    return engine


def _load(path: Path, options: EngineOptions, *, has_manifest: bool) -> FunctionEngine:
    if path.suffix == ONNX:
        return _load_onnx(path, options)
    if path.is_dir():
        from serve.engines.foreign_ops import require_ops
        from serve.engines.saved_model import load_saved_model

        require_ops(path, options.allowed_code)
        return load_saved_model(path, options.signature, has_manifest=has_manifest)
    from serve.engines.keras_model import SIGNATURE, load_keras_model

    if options.signature not in (None, SIGNATURE):
        raise RepositoryError(
            f"{path}: a Keras file has the one signature {SIGNATURE}, not '{options.signature}'"
        )
    return load_keras_model(path, options)


def _load_onnx(path: Path, options: EngineOptions) -> FunctionEngine:
    try:
        from serve.engines.onnxruntime_engine import load_onnx_model
    except ModuleNotFoundError as err:
        raise RepositoryError(
            f"{path}: ONNX Runtime is not installed; pip install 'strata-serve[engines]'"
        ) from err
    return load_onnx_model(path, options)


def _import(modules: Iterable[str]) -> None:
    """Import modules for the ops and layers that they register. Raises RepositoryError."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as err:
            package = str(err.name).partition(".")[0].replace("_", "-")
            raise RepositoryError(
                f"engine.imports: '{module}' cannot be imported: {err}; install it here (in the "
                f"image: --build-arg EXTRA_PACKAGES={package})"
            ) from err
        except Exception as err:  # whatever a module of somebody else raises
            text = " ".join(str(err).split()) or "no reason given"
            raise RepositoryError(
                f"engine.imports: '{module}' raised {type(err).__name__} while it was imported: "
                f"{text[:300]}; it may be built for another TensorFlow"
            ) from err
