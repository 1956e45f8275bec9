"""`strata train`: train reference models and publish them."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from serve.cli.options import DEFAULT_CONFIG, ConfigPath
from serve.cli.printing import out, progress_bar, quiet_tensorflow
from serve.cli.publish import SigningKey, VersionTrial, options_of, report
from serve.config.file import load
from serve.config.schema import Config
from serve.evaluation.baselines import Examples
from serve.evaluation.dataset import HELD_OUT, held_out
from serve.learn.recipes import RECIPES, Trained, prepare
from serve.learn.recipes import train as train_recipe
from serve.repository.publish import publish
from serve.repository.repository import Repository, configured
from serve.repository.trust import Signer, require_signer


def train(
    names: Annotated[list[str], typer.Argument(help=f"Some of: {', '.join(RECIPES)}.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Leave out what the repository has a version of.")
    ] = False,
    sign: SigningKey = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Train reference models, print their accuracy on held-out data, publish them one by one.

    \b
    Examples: strata train digits
              strata train digits-small digits-large --if-missing
    """
    tree = load(config)
    repository = configured(tree.repository)
    signer = Signer.read(sign) if sign else None
    require_signer(repository.trust, signer)
    for name in names:
        if not (if_missing and _has_version(repository, name)):
            _train(name, epochs, tree, repository, signer)


def _train(
    name: str, epochs: int | None, config: Config, repository: Repository, signer: Signer | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="strata-train-") as folder:
        with quiet_tensorflow():
            prepare(name)
        with progress_bar(f"training {name}") as progress:
            trained = train_recipe(name, Path(folder) / name, epochs, progress)
        out.print(
            f"{name}: {trained.held_out_accuracy:.1%} {trained.measure} after "
            f"{trained.epochs} epochs, {trained.seconds:.0f} s"
        )
        _publish(trained, name, config, repository, signer)


def _publish(
    trained: Trained, name: str, config: Config, repository: Repository, signer: Signer | None
) -> None:
    # On its training data a model is surer than on requests, so a drift baseline needs other
    # data: what was held out.
    unseen = held_out({"data": trained.data}, name).inputs
    for made in trained.made:
        examples = Examples(made.inputs or unseen, HELD_OUT, made.reconstruction_error)
        metadata = {"data": trained.data, "epochs": trained.epochs, **made.metadata}
        with VersionTrial(repository, options_of(config, made.name)) as trial:
            published = publish(
                made.folder,
                repository,
                made.name,
                made.version,
                metadata=metadata,
                validate=partial(trial.validate, examples=examples, model=made.name),
                prepare=trial.keep,
                signer=signer,
            )
        report(published, trial.verdict)


def _has_version(repository: Repository, name: str) -> bool:
    is_new = repository.is_local and not Path(repository.root).exists()
    return not is_new and bool(repository.versions(name))
