"""`strata publish`: a model into the repository, as a new version."""

from pathlib import Path
from typing import Annotated

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, quiet_tensorflow
from serve.config_file import load
from serve.repository.publish import Published
from serve.repository.publish import publish as publish_version
from serve.repository.repository import Repository
from serve.types import Signature


def publish(
    path: Annotated[Path, typer.Argument(help="A SavedModel folder, a .keras or a .h5 file.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[int | None, typer.Option(help="Version; the next one if left out.")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Check a model by loading it, and copy it into the repository as a new version.

    \b
    Example: strata publish my_model.keras --name churn
    """
    source = load(config).repository
    repository = Repository(source.root, Path(source.cache_dir))
    report(publish_version(path, repository, name, version, validate=try_loading))


def try_loading(path: Path) -> Signature:
    """Load a model, run it once, return its default signature. Raises RepositoryError."""
    from serve.engines.engine import EngineOptions

    with quiet_tensorflow():
        from serve.engines import keras_model, saved_model  # noqa: F401
        from serve.engines.loading import load as load_engine

    engine = load_engine(path, EngineOptions())
    engine.warmup((1,))
    return engine.signatures[engine.default_signature]


def report(published: Published) -> None:
    """Say where a version went."""
    manifest = published.manifest
    out.print(
        f"published {manifest.model} version {manifest.version} "
        f"({manifest.format}, {bytes_text(manifest.size_bytes)}) to {published.path}",
        markup=False,
    )
