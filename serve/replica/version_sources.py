"""Where engines come from: a version in the repository, or a pipeline of such versions.

Built by deployments, called by model in a thread.
"""

from collections.abc import Mapping

from serve.config.pipelines import Pipeline, members_of, nested_in
from serve.config.schema import Model
from serve.config.sections import RayActorOptions, Served
from serve.drift.baseline import Baseline, parse_baseline
from serve.engines.engine import Engine, EngineOptions
from serve.errors import RepositoryError
from serve.pipelines.build import FindModel, build
from serve.pipelines.member import ColocatedMember, Member
from serve.pipelines.pipeline_engine import PipelineEngine
from serve.replica.watched_model import WatchedModel, chosen
from serve.repository.repository import Repository
from serve.types import Signature


class RepositorySource:
    """The versions of one model in a repository."""

    def __init__(
        self,
        repository: Repository,
        model: str,
        options: RayActorOptions,
        engine: EngineOptions | None = None,
    ) -> None:
        self._repository = repository
        engine = engine or EngineOptions(options.num_threads, options.num_gpus)
        self._watched = WatchedModel(repository, model, engine)
        self._verdicts: dict[int, str] = {}

    def versions(self) -> list[int]:
        return sorted(self._watched.look())

    def revision(self, version: int) -> object:
        """Return what lies there, and which verdict on its engines there is.

        Another verdict has the version loaded again; one that went leaves it as it is.
        """
        files = self._watched.found.get(version)
        verdict = self._watched.verdict_stamp(version)
        if verdict is not None:
            self._verdicts[version] = verdict
        return files, self._verdicts.get(version)

    def problems(self) -> Mapping[int | str, str]:
        return self._watched.problems

    def absence(self) -> str:
        return self._watched.absence

    def fetch(self, version: int) -> None:
        self._watched.fetch(version)

    def load(self, version: int) -> Engine:
        return self._watched.load(version)

    def baseline(self, version: int, signatures: Mapping[str, Signature]) -> Baseline | None:
        data = self._repository.baseline(self._watched.loaded[version].path)
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
        self._options = engine_options(pipeline)
        self._watched: dict[str, WatchedModel] = {}

    def versions(self) -> list[int]:
        return [self._pipeline.version]

    def revision(self, version: int) -> object:
        """Return the versions and revisions of all colocated members: newer ones are taken up."""
        if self._pipeline.placement == "deployment":
            return ()
        inside = [self._pipeline, *nested_in(self._pipeline, self._pipelines)]
        members = [
            member
            for pipeline in inside
            for member in members_of(pipeline)
            if member.model not in self._pipelines
        ]
        found = {model: self._of(model).look() for model in {member.model for member in members}}
        return tuple(
            (member.model, *chosen(found[member.model], member.version)) for member in members
        )

    def problems(self) -> Mapping[int | str, str]:
        """Return nothing: what is wrong with its members, `load` says."""
        return {}

    def absence(self) -> str:
        return "its only version cannot be loaded"

    def fetch(self, version: int) -> None:
        """Do nothing: a pipeline's one version is never replaced by another."""

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
        watched = self._of(model)
        newest = max(watched.found, default=number)
        if version is None and number < newest:  # `revision` has told the other one
            raise RepositoryError(
                f"pipeline '{self._pipeline.name}': version {newest} of '{model}', which it has, "
                f"cannot be read now, and is not replaced by version {number}"
            )
        engine = watched.load(number)
        return ColocatedMember(label, engine, self._pipeline.batching.sizes)

    def _of(self, model: str) -> WatchedModel:
        if model not in self._watched:
            self._watched[model] = WatchedModel(self._repository, model, self._options)
        return self._watched[model]


def engine_options(served: Served) -> EngineOptions:
    """Return what the config says about the computing of a model, or of a pipeline's members.

    It is what an engine may take of a replica's share of the machine, and what it may bring.
    """
    options = served.ray_actor_options
    return EngineOptions(
        num_threads=options.num_threads,
        num_gpus=options.num_gpus,
        imports=served.engine.imports,
        allowed_code=served.engine.allowed_code,
        signature=served.signature if isinstance(served, Model) else None,
        rows=served.batching.rows,
        library=served.engine.use,
        sizes=served.batching.sizes,
    )
