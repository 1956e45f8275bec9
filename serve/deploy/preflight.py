"""Check a config against the models in the repository before it is applied.

Called by `strata up` and `strata apply`. Signatures come from the manifests; only a model that
was copied into the repository without one is loaded, which brings TensorFlow.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from pathlib import Path

from serve.config.schema import Config
from serve.errors import ConfigError, RepositoryError
from serve.pipelines.build import build
from serve.pipelines.member import Member
from serve.replica.version_policy import select
from serve.repository.repository import Repository
from serve.types import Signature, Tensors

# Loads a version of the repository: (model, version).
LoadSignature = Callable[[str, int], Signature]


class Outline:
    """A member that has a signature and computes nothing."""

    retraces = 0
    may_block_loop = False

    def __init__(self, label: str, signature: Signature) -> None:
        self.label = label
        self.signature = signature

    def compute(self, inputs: Tensors) -> Tensors:
        raise NotImplementedError("an outline only has the shape of a member")

    def warmup(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def awaited(
    config: Config, repository: Repository, running: Collection[str] = ()
) -> dict[str, str]:
    """Return what waits for a first version of a model in it, by name, with a sentence on that.

    What is `running` does not wait, nor does anything for a repository that does not answer.
    """
    absence = cache(partial(_absence, repository))
    served = {model.name for model in config.models}
    found = {}
    for name, models in config.models_needed().items():
        missing = [model for model in models if name not in running and absence(model)]
        if missing == [name]:
            found[name] = f"waits for its first version: {absence(name)}"
        elif missing:
            # A model that is served as well says for itself why it has none.
            told = [model if model in served else absence(model) for model in missing]
            found[name] = f"waits for the first version of {', '.join(told)}"
    return found


def check_pipelines(
    config: Config,
    repository: Repository,
    load_signature: LoadSignature,
    awaited: Collection[str] = (),
) -> None:
    """Build every pipeline without its models, but for those that are `awaited`.

    Raises ConfigError for a model that the repository does not have, and for a wire or a rule
    that does not fit the models' signatures.
    """
    pipelines = {pipeline.name: pipeline for pipeline in config.pipelines}

    @cache
    def signature_of(model: str, version: int) -> Signature:
        manifest = repository.manifest(model, version)
        known = manifest.signature if manifest else None
        return known or load_signature(model, version)

    for pipeline in config.pipelines:
        if pipeline.name in awaited:
            continue

        def find(label: str, model: str, version: int | None, name: str = pipeline.name) -> Member:
            try:
                number = repository.choose(model, version)
            except RepositoryError as err:
                raise ConfigError(f"pipelines[{name}]: {err}") from err
            return Outline(label, signature_of(model, number))

        build(pipeline, pipelines, find)


def check_versions(
    config: Config, repository: Repository, awaited: Collection[str] = ()
) -> list[str]:
    """Return what is doubtful of the versions that models ask for, a sentence each.

    Raises ConfigError for a label or a `specific` policy with a version that is not there. A model
    without any version is only doubtful, and not even that if it is `awaited`.
    """
    doubts: list[str] = []
    for index, model in enumerate(config.models):
        if model.name in awaited:
            continue
        try:
            found = repository.look(model.name)
        except RepositoryError as err:
            return [*doubts, f"versions and labels were not checked: {err}"]
        place, available = f"models[{index}]", list(found.revisions)
        if not available:
            doubts.append(f"{place}: {found.absence}")
            continue
        policy = model.version_policy
        for number in policy.specific or ():
            _require_version(f"{place}.version_policy.specific", model.name, number, available)
        loaded = select(available, latest=policy.latest, specific=policy.specific)
        for label, number in model.version_labels.items():
            where = f"{place}.version_labels.{label}"
            _require_version(where, model.name, number, available)
            if number not in loaded:
                doubts.append(
                    f"{where}: version {number} of '{model.name}' is not among those that its "
                    f"version_policy loads ({', '.join(map(str, sorted(loaded)))}); nobody is "
                    "served by this label"
                )
    return doubts


def _absence(repository: Repository, model: str) -> str:
    """Return why a model has no version; empty if it has one, or if that cannot be told."""
    try:
        return repository.look(model).absence
    except RepositoryError as err:
        is_new = repository.is_local and not Path(repository.root).exists()
        return str(err) if is_new else ""


def _require_version(where: str, model: str, number: int, available: Sequence[int]) -> None:
    if number not in available:
        raise ConfigError(
            f"{where}: model '{model}' has no version {number} "
            f"(available: {', '.join(map(str, available))})"
        )
