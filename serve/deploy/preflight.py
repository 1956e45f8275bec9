"""Check a config against the models in the repository before it is applied.

Called by `strata up` and `strata apply`. Signatures come from the manifests; only a model that
was copied into the repository without one is loaded, which brings TensorFlow.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cache

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


def check_pipelines(config: Config, repository: Repository, load_signature: LoadSignature) -> None:
    """Build every pipeline without its models.

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

        def find(label: str, model: str, version: int | None, name: str = pipeline.name) -> Member:
            try:
                number = repository.choose(model, version)
            except RepositoryError as err:
                raise ConfigError(f"pipelines[{name}]: {err}") from err
            return Outline(label, signature_of(model, number))

        build(pipeline, pipelines, find)


def check_versions(config: Config, repository: Repository) -> list[str]:
    """Return what is doubtful of the versions that models ask for, a sentence each.

    Raises ConfigError for a label or a `specific` policy with a version that is not there. A model
    without any version is only doubtful: one may be on its way (but see require_some_version).
    """
    doubts: list[str] = []
    for index, model in enumerate(config.models):
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


def require_some_version(config: Config, repository: Repository, added: Collection[str]) -> None:
    """Raise ConfigError if a model that is added has no version: none of its replicas could serve.

    It may be another one's name misspelt, which is removed then. A repository that does not answer
    is no reason (check_versions has told of it).
    """
    with suppress(RepositoryError):
        for index, model in enumerate(config.models):
            absence = repository.look(model.name).absence if model.name in added else ""
            if absence:
                raise ConfigError(f"models[{index}]: {absence}; nothing was changed")


def _require_version(where: str, model: str, number: int, available: Sequence[int]) -> None:
    if number not in available:
        raise ConfigError(
            f"{where}: model '{model}' has no version {number} "
            f"(available: {', '.join(map(str, available))})"
        )
