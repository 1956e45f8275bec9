"""`strata publish`: a model into the repository, as a new version."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, quiet_tensorflow
from serve.config.file import load
from serve.errors import ConfigError
from serve.evaluation.baselines import Examples, make_baseline, read_examples
from serve.repository.layout import BASELINE
from serve.repository.publish import Published
from serve.repository.publish import publish as publish_version
from serve.repository.repository import Repository
from serve.types import Signature

if TYPE_CHECKING:  # it brings TensorFlow
    from serve.engines.tensorflow_engine import TensorFlowEngine


def publish(
    path: Annotated[Path, typer.Argument(help="A SavedModel folder, a .keras or a .h5 file.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[int | None, typer.Option(help="Version; the next one if left out.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An .npz of usual inputs by name, to watch drift against.")
    ] = None,
    reconstruction_error: Annotated[
        str | None, typer.Option(help="With --baseline: the output that is an autoencoder's error.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Check a model by loading it, and copy it into the repository as a new version.

    \b
    Examples:
      strata publish my_model.keras --name churn
      strata publish my_model.keras --name churn --baseline held_out.npz
    """
    source = load(config).repository
    repository = Repository(source.root, Path(source.cache_dir))
    if baseline is None and reconstruction_error is not None:
        raise ConfigError("--reconstruction-error needs --baseline, whose rows have that error")
    examples = read_examples(baseline, reconstruction_error) if baseline else None
    validate = (
        partial(try_with_examples, examples=examples, model=name) if examples else try_loading
    )
    report(publish_version(path, repository, name, version, validate=validate))


def try_loading(path: Path) -> Signature:
    """Load a model, run it once and return its default signature. Raises RepositoryError."""
    engine = _engine(path)
    return engine.signatures[engine.default_signature]


def try_with_examples(path: Path, examples: Examples, model: str) -> Signature:
    """Load a staged model as try_loading does, and write its drift baseline into its folder.

    Raises RepositoryError, and ConfigError for examples that do not fit the model.
    """
    engine = _engine(path)
    (path / BASELINE).write_bytes(make_baseline(engine, examples, model).to_json())
    return engine.signatures[engine.default_signature]


def _engine(path: Path) -> "TensorFlowEngine":
    from serve.engines.engine import EngineOptions

    with quiet_tensorflow():
        from serve.engines import keras_model, saved_model  # noqa: F401
        from serve.engines.loading import load as load_engine

    engine = load_engine(path, EngineOptions())
    engine.warmup((1,))
    return engine


def report(published: Published) -> None:
    """Print what was published, and where it is."""
    manifest = published.manifest
    watched = ", with a drift baseline" if BASELINE in manifest.files else ""
    out.print(
        f"published {manifest.model} version {manifest.version} "
        f"({manifest.format}, {bytes_text(manifest.size_bytes)}{watched}) to {published.path}",
        markup=False,
    )
