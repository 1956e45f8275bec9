"""`strata publish`: a model into the repository, as a new version."""

import math
import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import bytes_text, out, quiet_tensorflow, slow_progress, steps, warn
from serve.config.file import load
from serve.config.schema import Config
from serve.engines.engine import EngineOptions
from serve.engines.function_engine import FunctionEngine
from serve.errors import ConfigError, RepositoryError
from serve.evaluation.baselines import Examples, make_baseline, read_examples
from serve.evaluation.dataset import read_arrays
from serve.evaluation.subject import find_served
from serve.replica.version_sources import engine_options
from serve.repository.engine_folders import content_of
from serve.repository.layout import BASELINE, SAMPLE
from serve.repository.manifest import Manifest
from serve.repository.progress import heard_by
from serve.repository.publish import Published
from serve.repository.publish import publish as publish_version
from serve.repository.repository import Repository, configured
from serve.repository.trust import Signer, require_signer
from serve.selection.trials import Trial, try_engines
from serve.selection.verdict import Verdict
from serve.selection.version_trial import here
from serve.types import Signature

SigningKey = Annotated[
    Path | None,
    typer.Option("--sign", help="Private ed25519 key in a PEM file, to sign the version with."),
]
PLAIN = EngineOptions()  # a model of which the config file says nothing


def publish(
    path: Annotated[Path, typer.Argument(help="A SavedModel folder, a .keras, .h5 or .onnx file.")],
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
    try_engines: Annotated[
        bool, typer.Option(help="Find out which library computes it best; takes half a minute.")
    ] = True,
    sign: SigningKey = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Check a model by loading it, and copy it into the repository as a new version.

    \b
    Examples:
      strata publish my_model.keras --name churn
      strata publish my_model.keras --name churn --baseline held_out.npz
      strata publish my_saved_model --name ocr --sample a_few_inputs.npz
      strata publish my_model.keras --name churn --sign strata.key

    \b
    A pair of keys to sign with, and to verify with (repository.public_keys in the config file):
      openssl genpkey -algorithm ed25519 -out strata.key
      openssl pkey -in strata.key -pubout -out strata.pub
    """
    tree = load(config)
    repository = configured(tree.repository)
    signer = Signer.read(sign) if sign else None
    require_signer(repository.trust, signer)  # before anything takes long
    if baseline is None and reconstruction_error is not None:
        raise ConfigError("--reconstruction-error needs --baseline, whose rows have that error")
    examples = read_examples(baseline, reconstruction_error) if baseline else None
    options = options_of(tree, name)
    # What the config says of rows is its own word, and may change; the manifest has what was found.
    options = replace(options, signature=signature or options.signature, rows="auto")
    with (
        VersionTrial(repository, options, try_engines=try_engines) as trial,
        slow_progress() as listener,
        heard_by(listener),
    ):
        validate = partial(trial.validate, model=name, sample=sample, examples=examples)
        published = publish_version(
            path, repository, name, version, validate=validate, prepare=trial.keep, signer=signer
        )
    report(published, trial.verdict)


def options_of(config: Config, model: str) -> EngineOptions:
    """Return what a model's engine may take and bring, by its entry in the config file.

    Of a card it takes what it needs and no share of its own: replicas may hold all of them.
    """
    options = engine_options(find_served(config, model))
    return replace(options, num_gpus=math.ceil(options.num_gpus))


class VersionTrial:
    """Tries a version while it is published: does it compute, and which library does so best.

    Of the engines nothing depends on their trial: what goes wrong in it is a warning.
    """

    def __init__(
        self, repository: Repository, options: EngineOptions, *, try_engines: bool = True
    ) -> None:
        self.verdict: Verdict | None = None
        self._repository = repository
        self._options = options
        self._try_engines = try_engines and options.library != "tensorflow"
        self._made = tempfile.TemporaryDirectory(prefix="strata-verdict-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._made.cleanup()

    def validate(
        self,
        path: Path,
        model: str = "",
        sample: Path | None = None,
        examples: Examples | None = None,
    ) -> list[Signature]:
        """Do what `try_version` does, and try the engines."""
        engine = _tried_engine(path, model, self._options, sample, examples)
        if self._try_engines:
            self.verdict = self._tried(path, engine)
        return _signatures(engine)

    def keep(self, manifest: Manifest) -> None:
        """Put the verdict beside the version, which is about to appear."""
        if self.verdict is None:
            return
        content = content_of(manifest, "")
        try:
            self._repository.engines.put(self._folder, manifest.model, content, here(self._options))
        except RepositoryError as err:
            warn(f"the verdict on its engines is not kept: {err}")

    @property
    def _folder(self) -> Path:
        return Path(self._made.name) / "engines"

    def _tried(self, path: Path, engine: FunctionEngine) -> Verdict | None:
        trial = Trial(path, self._options, self._options.sizes)
        try:
            return try_engines(trial, engine, self._folder, steps("engines"))
        except Exception as err:  # the version is right, whatever became of this
            warn(f"other engines were not tried: {type(err).__name__}: {err}")
            return None


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
    return _signatures(_tried_engine(path, model, options, sample, examples))


def _tried_engine(
    path: Path,
    model: str,
    options: EngineOptions,
    sample: Path | None,
    examples: Examples | None,
) -> FunctionEngine:
    if sample is not None:
        _put_sample(sample, path)
    engine = _engine(path, options)
    if examples is not None:
        (path / BASELINE).write_bytes(make_baseline(engine, examples, model).to_json())
    return engine


def _signatures(engine: FunctionEngine) -> list[Signature]:
    default = engine.signatures[engine.default_signature]
    return [default, *(other for other in engine.signatures.values() if other is not default)]


def _put_sample(sample: Path, folder: Path) -> None:
    read_arrays(sample)  # a ConfigError that names the user's own file
    shutil.copyfile(sample, folder / SAMPLE)


def _engine(path: Path, options: EngineOptions) -> FunctionEngine:
    with quiet_tensorflow():
        from serve.engines import keras_model, saved_model  # noqa: F401
        from serve.engines.loading import load as load_engine

    engine = load_engine(path, options)
    engine.warmup((1,))
    return engine


def report(published: Published, verdict: Verdict | None = None) -> None:
    """Print what was published and where, what computes it, and what it changes for clients."""
    manifest = published.manifest
    watched = ", with a drift baseline" if BASELINE in manifest.files else ""
    default = manifest.signature
    out.print(
        f"published {manifest.model} version {manifest.version} "
        f"({manifest.format}, {bytes_text(manifest.size_bytes)}{watched}) to {published.path}",
        markup=False,
    )
    if verdict is not None:
        out.print(f"computed by {verdict.chosen}: {verdict.reason}", markup=False)
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
