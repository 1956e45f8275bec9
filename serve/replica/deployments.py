"""The classes that Ray Serve runs as replicas, one of a model and one of the gateway.

They build the parts and hand them the user_config, nothing more. What a model's replica does is in
endpoint and model, what the gateway does is in gateway.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve as ray_serve
from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.logging_utils import get_serve_logs_dir

from serve.config.pipelines import PIPELINE, Pipeline
from serve.config.schema import Model as ModelConfig
from serve.config.schema import Repository as RepositoryConfig
from serve.config.sections import Limits, Prices, Served, Slo, Tenants, VersionPolicy
from serve.edge.http import HttpRequest, HttpResponse
from serve.edge.middleware import Answered, answer_here
from serve.errors import InvalidRequest, ModelNotReady, ServeError
from serve.pipelines.remote import RemoteMember
from serve.replica.endpoint import ModelEndpoint
from serve.replica.gateway import Gateway
from serve.replica.loaded_version import Source
from serve.replica.model import Model
from serve.replica.version_sources import PipelineSource, RepositorySource, engine_options
from serve.repository.repository import configured
from serve.telemetry.faults import Faults
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_metrics import NO_VERSION, RequestMetrics
from serve.telemetry.request_reporter import Replica, Reporter, reporter_for
from serve.types import InferRequest, InferResponse, Signature

log = logging.getLogger("ray.serve")

_SAMPLE_PERIOD_S = 1.0
_CATCH_UP_PERIOD_S = 10.0
_MOST_SAID = 20  # different errors of one task in the log, until it works again

# The engine's thread waits this long for the interpreter while the event loop is busy; Python's
# default of 5 ms is several engine calls long (docs/performance.md).
_SWITCH_INTERVAL_S = 0.00003

# What Ray counts an ongoing request by; who asks for what is nothing to it.
_A_REQUEST = RequestMetadata(
    request_id="",
    internal_request_id="",
    is_direct_ingress=True,
    _request_protocol=RequestProtocol.HTTP,
)


@ray_serve.ingress()
class ModelDeployment:
    """A replica of one model or pipeline; `pipelines` are those that are nested in it."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it, on the loop that members need
        self,
        served: dict[str, Any],
        repository: dict[str, Any],
        pipelines: list[dict[str, Any]] | None = None,
    ) -> None:
        where = RepositoryConfig.model_validate(repository)
        config, source = _parse(served, where, pipelines or [])
        recorder = Recorder(config.name)
        self._model = Model(config, source, recorder)
        self._metrics = RequestMetrics(recorder, config.ray_actor_options)
        self._endpoint = ModelEndpoint(self._model, config.limits.max_body_bytes, self._metrics)
        self._recorder = recorder
        self._poll_interval_s = where.poll_interval_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pending: dict[str, Callable[[], Awaitable[None]]] = {}
        self._taking = asyncio.Lock()
        self._change_faults = Faults("change", f"a change of model '{config.name}'")
        self._task_faults = Faults("task", f"a background task of model '{config.name}'")

    def __serve_build_asgi_app__(self) -> ModelEndpoint:
        prefix = f"/v2/models/{self._model.name}"
        answer_here(Answered(self._endpoint, prefix, _A_REQUEST))
        return self._endpoint

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a user_config, as applications makes it; the first call loads the model.

        Its parts are taken one by one, and none keeps the others away. A part that fails is tried
        again while the replica serves; a replica that has nothing to serve raises what failed.
        """
        self._pending = {
            "metrics": partial(self._take_accounts, user_config),
            "reporter": partial(self._take_reporter, user_config),
        }
        with self._change_faults.noted():
            await self._take_pending()
        try:
            await self._take_versions(user_config)
        except Exception as err:
            if not self._model.versions:
                with self._change_faults.noted():
                    self._recorder.flush()
                raise  # a replica that cannot start must say why
            self._change_faults.note(err)
            self._pending["versions"] = partial(self._take_versions, user_config)
        with self._change_faults.noted():
            self._recorder.flush()  # a failed load, before Ray takes the replica away
        self._model.require_ready()
        self._start_tasks()

    async def _take_pending(self) -> None:
        async with self._taking:
            for part, take in list(self._pending.items()):
                with self._change_faults.noted():
                    await take()
                    if self._pending.get(part) is take:  # no newer change came meanwhile
                        del self._pending[part]

    async def _take_reporter(self, user_config: dict[str, Any]) -> None:
        self._endpoint.reporter = await _reporter(user_config, self._endpoint.reporter)

    async def _take_accounts(self, user_config: dict[str, Any]) -> None:
        self._metrics.apply(
            Slo.model_validate(user_config["slo"]),
            Tenants.model_validate(user_config["tenants"]),
            Prices.model_validate(user_config["prices"]),
            user_config["max_replicas"],
        )

    async def _take_versions(self, user_config: dict[str, Any]) -> None:
        """Have the model take policy and labels; it remembers what it cannot reach now."""
        policy = VersionPolicy.model_validate(user_config["version_policy"])
        # Large versions are text in JSON, where some programs round numbers.
        labels = {label: int(number) for label, number in user_config["version_labels"].items()}
        try:
            await self._model.apply(policy, labels)
        except ServeError as err:
            if not self._model.versions:
                raise
            log.error(
                "model '%s': the change was not applied yet, and is tried again: %s",
                self._model.name,
                err,
            )

    async def check_health(self) -> None:
        """Ray Serve replaces a replica whose health check raises."""
        name = self._model.name
        if not self._tasks:
            return  # it is being started
        if not self._model.versions and not self._model.is_replacing:
            raise ModelNotReady(f"model '{name}' has lost its versions")
        for task, running in self._tasks.items():
            if running.done():
                raise ModelNotReady(f"model '{name}': the background task '{task}' has ended")
        self._model.require_quick()

    async def handle_http(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that the gateway passes on."""
        return await self._endpoint.respond(request)

    async def infer(self, request: InferRequest) -> InferResponse | InvalidRequest:
        """Return the outputs for a pipeline that has this model as a member.

        A client's mistake is returned, too: Ray logs what is raised, with a traceback.
        """
        reporter = self._endpoint.reporter
        try:
            if reporter is None:
                return await self._model.infer(request)
            return await reporter.infer(self._model.infer, request, self._model.name)
        except InvalidRequest as err:
            return type(err)(str(err))  # without its causes, which need not pickle

    async def signature(self, version: int | None) -> Signature:
        """Return a version's default signature, for a pipeline that is being built."""
        return self._model.choose(version, None).signature(None)

    async def describe(self) -> dict[str, Any]:
        """Return the versions, labels and failures of this replica, for status and index.

        And, by version, how far it is loaded, and why the rows of its requests are computed
        together, each request by itself.
        """
        return {
            "versions": sorted(self._model.versions),
            "labels": dict(self._model.labels),
            "failures": self._model.unavailable(),
            "loading": dict(self._model.loading),
            "together": self._model.together(),
        }

    def __del__(self) -> None:
        """Ray Serve calls this once a stopping replica has handled its last request.

        And Python does for one whose __init__ raised, which has no endpoint.
        """
        endpoint: ModelEndpoint | None = getattr(self, "_endpoint", None)
        if endpoint is not None:
            _close(endpoint.reporter)

    def _start_tasks(self) -> None:
        sys.setswitchinterval(_SWITCH_INTERVAL_S)  # once imports and loading no longer suffer
        self._start("sample", self._sample, _SAMPLE_PERIOD_S)
        self._start("catch up", self._catch_up, _CATCH_UP_PERIOD_S)
        if self._poll_interval_s:
            self._start("watch", self._model.refresh, self._poll_interval_s)

    def _start(self, name: str, action: Callable[[], Awaitable[None]], period_s: float) -> None:
        if name not in self._tasks:
            task = asyncio.create_task(_repeat(action, period_s, self._task_faults))
            self._tasks[name] = task

    async def _catch_up(self) -> None:
        """Take what a change left pending; without a watch, what could not be loaded then, too."""
        await self._take_pending()
        if not self._poll_interval_s:
            await self._model.catch_up()

    async def _sample(self) -> None:
        recorder, noted = self._recorder, self._task_faults.noted
        with noted():
            recorder.gauge("model_requests_in_flight", self._endpoint.in_flight)
        with noted():
            self._model.sample()
        with noted():
            self._metrics.sample(self._model.versions)
        endpoint = self._endpoint
        told = [endpoint.request_faults, endpoint.report_faults]
        if endpoint.reporter is not None:
            told.append(endpoint.reporter.faults)
        for faults in (*told, self._change_faults, self._task_faults):
            recorder.count("internal_errors", faults.take(), place=faults.place)
        known = {NO_VERSION, *map(str, self._model.versions), *map(str, self._model.failures)}
        recorder.retain(known)
        recorder.flush()


def _parse(
    served: dict[str, Any], where: RepositoryConfig, pipelines: list[dict[str, Any]]
) -> tuple[Served, Source]:
    repository = configured(where)
    if "kind" not in served:
        model = ModelConfig.model_validate(served)
        return model, RepositorySource(
            repository, model.name, model.ray_actor_options, engine_options(model)
        )
    nested: list[Pipeline] = [PIPELINE.validate_python(tree) for tree in pipelines]
    pipeline: Pipeline = PIPELINE.validate_python(served)
    remote = partial(
        RemoteMember, timeout_s=pipeline.limits.request_timeout_s, loop=asyncio.get_running_loop()
    )
    by_name = {other.name: other for other in nested}
    return pipeline, PipelineSource(repository, pipeline, by_name, remote)


async def _reporter(user_config: dict[str, Any], before: Reporter | None) -> Reporter | None:
    """Return the reporter that a user_config asks for, None for none."""
    context = ray_serve.get_replica_context()
    # Beside the replica's own log; Ray has no public name for the folder (2.60).
    folder = Path(get_serve_logs_dir())
    replica = Replica(context.app_name, context.replica_id.unique_id, folder)
    return await asyncio.to_thread(reporter_for, user_config, replica, before)


def _close(reporter: Reporter | None) -> None:
    if reporter is not None:
        reporter.close()


async def _repeat(
    action: Callable[[], Awaitable[None]], period_s: float, faults: Faults | None = None
) -> None:
    """Do something every `period_s`, whatever it raises; each error is said once until it works."""
    faults = faults or Faults("task", "a background task")
    said: set[str] = set()
    while True:
        await asyncio.sleep(period_s)
        try:
            await action()
            said.clear()
        except ServeError as err:  # the repository is away; once is enough in the log
            if str(err) not in said and len(said) < _MOST_SAID:
                log.warning("%s", err)
                said.add(str(err))
        except Exception as err:
            faults.note(err)


@ray_serve.ingress()
class GatewayDeployment:
    """A replica of the gateway."""

    def __init__(self) -> None:
        self._recorder = Recorder("gateway")
        self._gateway = Gateway(self._recorder)
        self._flushing: asyncio.Task[None] | None = None
        self._change_faults = Faults("change", "a change of the gateway")
        self._task_faults = Faults("task", "a background task of the gateway")

    def __serve_build_asgi_app__(self) -> Gateway:
        answer_here(Answered(self._gateway, "", _A_REQUEST))
        return self._gateway

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a user_config, as applications makes it: the models' names above all."""
        models = user_config["models"]
        limits = {
            model["name"]: Limits.model_validate(model["limits"])
            for model in models
            if "limits" in model
        }
        awaited = {each["application"]["name"] for each in user_config.get("awaited", ())}
        self._gateway.apply(tuple(model["name"] for model in models), limits, awaited)
        with self._change_faults.noted():  # the models are reached without traces and log, too
            self._gateway.reporter = await _reporter(user_config, self._gateway.reporter)
        if self._flushing is None:
            flushing = _repeat(self._flush, _SAMPLE_PERIOD_S, self._task_faults)
            self._flushing = asyncio.create_task(flushing)

    async def check_health(self) -> None:
        """Ray Serve replaces a replica whose health check raises."""
        if self._flushing is not None and self._flushing.done():
            raise ModelNotReady("the gateway: its background task has ended")

    def __del__(self) -> None:
        """Ray Serve calls this once a stopping replica has handled its last request."""
        gateway: Gateway | None = getattr(self, "_gateway", None)
        if gateway is not None:
            _close(gateway.reporter)

    async def _flush(self) -> None:
        for faults in (
            self._gateway.request_faults,
            self._gateway.report_faults,
            self._gateway.states.faults,
            self._change_faults,
            self._task_faults,
        ):
            self._recorder.count("internal_errors", faults.take(), place=faults.place)
        self._recorder.flush()
