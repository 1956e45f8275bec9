"""The model or pipeline that is measured, loaded in this process the way a replica does.

Called by measure and cascade_layers. A pipeline's members are always loaded here, whatever their
placement: both placements give the same numbers, and here nothing else is measured with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.batching.merging import rows_of
from serve.config.schema import Config, Model, is_name, no_name
from serve.config.sections import Served
from serve.engines.engine import Complexity
from serve.errors import ConfigError
from serve.pipelines.build import build
from serve.pipelines.member import ColocatedMember, Member
from serve.pipelines.pipeline_engine import Kind
from serve.replica.version_sources import engine_options
from serve.repository.repository import Repository
from serve.selection.version_trial import load_chosen
from serve.types import Tensors

if TYPE_CHECKING:
    from serve.engines.function_engine import FunctionEngine


@dataclass(frozen=True, slots=True)
class Reference:
    """A model or pipeline as people name it: `digits`, or `digits@3` for one version."""

    name: str
    version: int | None = None

    @property
    def text(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


class CountedMember(ColocatedMember):
    """A model that counts the rows it is given, which in a cascade are fewer for later layers."""

    def __init__(self, label: str, engine: "FunctionEngine", served: Served) -> None:
        super().__init__(label, engine, served.batching.sizes)
        self.library = engine.name
        self._function_engine = engine
        self.rows = 0

    def compute(self, inputs: Tensors) -> Tensors:
        self.rows += rows_of(inputs)
        return super().compute(inputs)

    def complexity(self) -> Complexity:
        """Return parameters, and operations of a row; None where they are not known."""
        return self._function_engine.complexity() or Complexity(None, None)


@dataclass(frozen=True, slots=True)
class Subject:
    """A model or pipeline that is loaded and warm: `member` computes, `models` take part in it.

    `metadata` is what the manifests of all models have in common; `kind` is how a pipeline puts
    them together, None for a model.
    """

    served: Served
    member: Member
    models: tuple[CountedMember, ...]
    metadata: Mapping[str, object]
    kind: Kind | None


def find_served(config: Config, name: str) -> Served:
    """Return a model or pipeline of the config file; a model that it lacks gets the defaults.

    Raises ConfigError for what cannot be a model's name.
    """
    known = {served.name: served for served in config.served}
    if name in known:
        return known[name]
    if not is_name(name):
        raise ConfigError(no_name(name))
    return Model(name=name)


def load_subject(config: Config, repository: Repository, reference: Reference) -> Subject:
    """Load a model or a pipeline. Raises ConfigError, RepositoryError."""
    served = find_served(config, reference.name)
    options = engine_options(served)
    models: list[CountedMember] = []
    found: list[Mapping[str, object]] = []

    def find(label: str, model: str, version: int | None) -> Member:
        number = repository.choose(model, version)
        manifest = repository.manifest(model, number)
        found.append(manifest.metadata if manifest else {})
        engine = load_chosen(repository, model, number, options)
        models.append(CountedMember(label, engine, served))
        return models[-1]

    kind = None
    if isinstance(served, Model):
        member = find(served.name, served.name, reference.version)
    else:
        pipelines = {pipeline.name: pipeline for pipeline in config.pipelines}
        engine = build(pipelines[served.name], pipelines, find)
        kind = engine.kind
        member = ColocatedMember(served.name, engine, range(1, served.batching.max_batch_size + 1))
    member.warmup()
    return Subject(served, member, tuple(models), _of_all(found), kind)


def _of_all(metadata: list[Mapping[str, object]]) -> Mapping[str, object]:
    """Return the entries that the metadata of all models have in common."""
    first, *others = metadata
    return {key: value for key, value in first.items() if all(o.get(key) == value for o in others)}
