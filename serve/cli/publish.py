"""`strata publish`: a model into the repository, as a new version."""

import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, quiet_tensorflow
from serve.config.file import load
from serve.config.schema import Config
from serve.engines.engine import EngineOptions
from serve.errors import ConfigError
from serve.evaluation.baselines import Examples, make_baseline, read_examples
from serve.evaluation.dataset import read_arrays
from serve.evaluation.subject import find_served
from serve.replica.version_sources import engine_options
from serve.repository.layout import BASELINE, SAMPLE
from serve.repository.publish import Published
from serve.repository.publish import publish as publish_version
from serve.repository.repository import configured
from serve.types import Signature

if TYPE_CHECKING:  # it brings TensorFlow
    from serve.engines.tensorflow_engine import TensorFlowEngine


PLAIN = EngineOptions()  # a model of which the config file says nothing


def publish(
    path: Annotated[Path, typer.Argument(help="A SavedModel folder, a .keras or a .h5 file.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    version: Annotated[int | None, typer.Option(help="Version; the next one if left out.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="An .npz of usual inputs by name, to watch drift against.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="An .npz of inputs by name that the model computes, to be tried with."),
    ] = None,
    signature: Annotated[
        str | None, typer.Option(help="The signature that answers where a request names none.")
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
      strata publish my_saved_model --name ocr --sample a_few_inputs.npz
    """
    tree = load(config)
    repository = configured(tree.repository)
    if baseline is None and reconstruction_error is not None:
        raise ConfigError("--reconstruction-error needs --baseline, whose rows have that error")
    examples = read_examples(baseline, reconstruction_error) if baseline else None
    options = options_of(tree, name)
    # What the config says of rows is its own word, and may change; the manifest has what was found.
    options = replace(options, signature=signature or options.signature, rows="auto")
    validate = partial(try_version, model=name, options=options, sample=sample, examples=examples)
    report(publish_version(path, repository, name, version, validate=validate))


def options_of(config: Config, model: str) -> EngineOptions:
    """Return what a model's engine may take and bring, by its entry in the config file.

    Of a card it takes what it needs and no share of its own: replicas may hold all of them.
    """
    options = engine_options(find_served(config, model))
    return replace(options, num_gpus=math.ceil(options.num_gpus))


def try_version(
    path: Path,
    model: str = "",
    options: EngineOptions = PLAIN,
    sample: Path | None = None,
    examples: Examples | None = None,
) -> list[Signature]:
    """Load a model, compute with it, and return its signatures, the default one first.

    `sample` is put into its folder to be tried, and so is the drift baseline made of `examples`.
    Raises RepositoryError, and ConfigError for examples that do not fit the model.
    """
    if sample is not None:
        _put_sample(sample, path)
    engine = _engine(path, options)
    if examples is not None:
        (path / BASELINE).write_bytes(make_baseline(engine, examples, model).to_json())
    default = engine.signatures[engine.default_signature]
    return [default, *(other for other in engine.signatures.values() if other is not default)]


def _put_sample(sample: Path, folder: Path) -> None:
    read_arrays(sample)  # a ConfigError that names the user's own file
    shutil.copyfile(sample, folder / SAMPLE)


def _engine(path: Path, options: EngineOptions) -> "TensorFlowEngine":
    with quiet_tensorflow():
        from serve.engines import keras_model, saved_model  # noqa: F401
        from serve.engines.loading import load as load_engine

    engine = load_engine(path, options)
    engine.warmup((1,))
    return engine


def report(published: Published) -> None:
    """Print what was published, where it is, and what it changes for clients."""
    manifest = published.manifest
    watched = ", with a drift baseline" if BASELINE in manifest.files else ""
    default = manifest.signature
    out.print(
        f"published {manifest.model} version {manifest.version} "
        f"({manifest.format}, {bytes_text(manifest.size_bytes)}{watched}) to {published.path}",
        markup=False,
    )
    if default is not None and not default.batched:
        out.print(
            f"its requests are computed one by one, not in batches: {default.batched_reason}",
            markup=False,
        )
    if published.changes:
        out.print(
            f"clients of version {published.before} may have to change: "
            f"{'; '.join(published.changes)} (names that the model's code gives its inputs and "
            "outputs stay the same)",
            markup=False,
        )
