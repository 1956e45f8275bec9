"""Where engines come from: a version in the repository, or a pipeline of such versions.

Built by deployments, called by model in a thread.
"""

from collections.abc import Mapping, Sequence

from serve.config_pipelines import Pipeline
from serve.config_sections import RayActorOptions
from serve.engines.engine import Engine, EngineOptions
from serve.engines.loading import load
from serve.errors import RepositoryError
from serve.pipelines.build import build
from serve.pipelines.engine import PipelineEngine
from serve.pipelines.member import ColocatedMember, Member
from serve.repository.repository import Repository


class RepositorySource:
    """The versions of one model in a repository."""

    def __init__(self, repository: Repository, model: str, options: RayActorOptions) -> None:
        self._repository = repository
        self._model = model
        self._options = engine_options(options)

    def versions(self) -> list[int]:
        return self._repository.versions(self._model)

    def load(self, version: int) -> Engine:
        return load(self._repository.fetch(self._model, version), self._options)


class PipelineSource:
    """The one version of a pipeline; its members are loaded into the same process."""

    def __init__(
        self, repository: Repository, pipeline: Pipeline, pipelines: Mapping[str, Pipeline]
    ) -> None:
        self._repository = repository
        self._pipeline = pipeline
        self._pipelines = pipelines
        self._options = engine_options(pipeline.ray_actor_options)

    def versions(self) -> list[int]:
        return [self._pipeline.version]

    def load(self, version: int) -> PipelineEngine:
        return build(self._pipeline, self._pipelines, self._find)

    def _find(self, label: str, model: str, version: int | None) -> Member:
        available = self._repository.versions(model)
        number = version or max(available, default=0)
        if number not in available:
            raise RepositoryError(
                f"pipeline '{self._pipeline.name}': model '{model}' has no version "
                f"{version or 'at all'} to use (available: {_listed(available)})"
            )
        engine = load(self._repository.fetch(model, number), self._options)
        return ColocatedMember(label, engine, self._pipeline.batching.sizes)


def engine_options(options: RayActorOptions) -> EngineOptions:
    """Return what an engine may take of a replica's share of the machine."""
    share = options.num_gpus if 0 < options.num_gpus < 1 else None
    return EngineOptions(options.num_threads, share)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"
