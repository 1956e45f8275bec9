"""Where engines come from: a version in the repository, or a pipeline of such versions.

Built by deployments, called by model in a thread.
"""

from collections.abc import Mapping

from serve.config.pipelines import Pipeline, members_of, nested_in
from serve.config.schema import Model
from serve.config.sections import RayActorOptions, Served
from serve.drift.baseline import Baseline, parse_baseline
from serve.engines.engine import UNSET, Engine, EngineOptions, ModelOptions
from serve.engines.loading import load
from serve.errors import RepositoryError
from serve.pipelines.build import FindModel, build
from serve.pipelines.member import ColocatedMember, Member
from serve.pipelines.pipeline_engine import PipelineEngine
from serve.repository.repository import Repository
from serve.types import Signature


class RepositorySource:
    """The versions of one model in a repository."""

    def __init__(
        self,
        repository: Repository,
        model: str,
        options: RayActorOptions,
        model_options: ModelOptions = UNSET,
    ) -> None:
        self._repository = repository
        self._model = model
        self._options = engine_options(options)
        self._model_options = model_options

    def versions(self) -> list[int]:
        return self._repository.versions(self._model)

    def revision(self, version: int) -> object:
        return version  # versions never change

    def load(self, version: int) -> Engine:
        return load(
            self._repository.fetch(self._model, version), self._options, self._model_options
        )

    def baseline(self, version: int, signatures: Mapping[str, Signature]) -> Baseline | None:
        data = self._repository.baseline(self._model, version)
        return None if data is None else parse_baseline(data, signatures)


class PipelineSource:
    """The one version of a pipeline: its members in the same process, or by their own replicas.

    `remote` gives the member for a model that is called through its handle:
    (label, model, version).
    """

    def __init__(
        self,
        repository: Repository,
        pipeline: Pipeline,
        pipelines: Mapping[str, Pipeline],
        remote: FindModel,
    ) -> None:
        self._repository = repository
        self._remote = remote
        self._pipeline = pipeline
        self._pipelines = pipelines
        self._options = engine_options(pipeline.ray_actor_options)

    def versions(self) -> list[int]:
        return [self._pipeline.version]

    def revision(self, version: int) -> object:
        """Return the versions of all colocated members: a newer one is taken up."""
        if self._pipeline.placement == "deployment":
            return ()
        inside = [self._pipeline, *nested_in(self._pipeline, self._pipelines)]
        return tuple(
            (member.model, self._number(member.model, member.version))
            for pipeline in inside
            for member in members_of(pipeline)
            if member.model not in self._pipelines
        )

    def load(self, version: int) -> PipelineEngine:
        if self._pipeline.placement == "deployment":
            # A nested pipeline is an application too, with members where its own placement says.
            return build(self._pipeline, {}, self._remote)
        return build(self._pipeline, self._pipelines, self._load_member)

    def baseline(self, version: int, signatures: Mapping[str, Signature]) -> None:
        """Return None: a pipeline is configured, not published, and has no folder for one."""

    def _load_member(self, label: str, model: str, version: int | None) -> Member:
        try:
            number = self._repository.choose(model, version)
        except RepositoryError as err:
            raise RepositoryError(f"pipeline '{self._pipeline.name}': {err}") from err
        folder = self._repository.fetch(model, number)
        engine = load(folder, self._options, model_options(self._pipeline))
        return ColocatedMember(label, engine, self._pipeline.batching.sizes)

    def _number(self, model: str, version: int | None) -> int | None:
        available = self._repository.versions(model)
        number = version or max(available, default=0)
        return number if number in available else None


def engine_options(options: RayActorOptions) -> EngineOptions:
    """Return what an engine may take of a replica's share of the machine."""
    share = options.num_gpus if 0 < options.num_gpus < 1 else None
    return EngineOptions(options.num_threads, share)


def model_options(served: Served) -> ModelOptions:
    """Return what the config says about the computing of a model, or of a pipeline's members."""
    signature = served.signature if isinstance(served, Model) else None
    return ModelOptions(signature, served.batching.rows)
