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
from ray.serve._private.logging_utils import get_serve_logs_dir

from serve.config.pipelines import PIPELINE, Pipeline
from serve.config.schema import Model as ModelConfig
from serve.config.schema import Repository as RepositoryConfig
from serve.config.sections import Prices, Served, Slo, Tenants, VersionPolicy
from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import ModelNotReady, ServeError
from serve.pipelines.remote import RemoteMember
from serve.replica.endpoint import ModelEndpoint
from serve.replica.gateway import Gateway
from serve.replica.model import Model, Source
from serve.replica.version_sources import PipelineSource, RepositorySource, model_options
from serve.repository.repository import Repository
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_metrics import RequestMetrics
from serve.telemetry.request_reporter import Replica, Reporter, reporter_for
from serve.types import InferRequest, InferResponse, Signature

log = logging.getLogger("ray.serve")

_SAMPLE_PERIOD_S = 1.0

# The engine's thread waits this long for the interpreter while the event loop is busy; Python's
# default of 5 ms is several engine calls long (docs/performance.md).
_SWITCH_INTERVAL_S = 0.00003


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
        self._tasks: list[asyncio.Task[None]] = []

    def __serve_build_asgi_app__(self) -> ModelEndpoint:
        return self._endpoint

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a user_config, as applications makes it; the first call loads the model."""
        self._endpoint.reporter = await _reporter(user_config, self._endpoint.reporter)
        self._metrics.apply(
            Slo.model_validate(user_config["slo"]),
            Tenants.model_validate(user_config["tenants"]),
            Prices.model_validate(user_config["prices"]),
            user_config["max_replicas"],
        )
        policy = VersionPolicy.model_validate(user_config["version_policy"])
        try:
            await self._model.apply(policy, user_config["version_labels"])
        except ServeError as err:
            # A replica that serves goes on serving; one that cannot start must say why.
            if not self._model.versions:
                raise
            log.error("model '%s': the change was not applied: %s", self._model.name, err)
        self._recorder.flush()  # a failed load, before Ray takes the replica away
        self._model.require_ready()
        self._start_tasks()

    async def check_health(self) -> None:
        """Ray Serve replaces a replica whose health check raises."""
        if self._tasks and not self._model.versions:
            raise ModelNotReady(f"model '{self._model.name}' has lost its versions")

    async def handle_http(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that the gateway passes on."""
        return await self._endpoint.respond(request)

    async def infer(self, request: InferRequest) -> InferResponse:
        """Return the outputs for a pipeline that has this model as a member."""
        reporter = self._endpoint.reporter
        if reporter is None:
            return await self._model.infer(request)
        return await reporter.infer(self._model.infer, request, self._model.name)

    async def signature(self, version: int | None) -> Signature:
        """Return a version's default signature, for a pipeline that is being built."""
        return self._model.choose(version, None).signature(None)

    async def describe(self) -> dict[str, Any]:
        """Return the versions, labels and failures of this replica, for status and index."""
        return {
            "versions": sorted(self._model.versions),
            "labels": dict(self._model.labels),
            "failures": dict(self._model.failures),
        }

    def __del__(self) -> None:
        """Ray Serve calls this once a stopping replica has handled its last request."""
        _close(self._endpoint.reporter)

    def _start_tasks(self) -> None:
        if self._tasks:
            return
        sys.setswitchinterval(_SWITCH_INTERVAL_S)  # once imports and loading no longer suffer
        self._tasks.append(asyncio.create_task(_repeat(self._sample, _SAMPLE_PERIOD_S)))
        if self._poll_interval_s:
            poll = _repeat(self._model.refresh, self._poll_interval_s)
            self._tasks.append(asyncio.create_task(poll))

    async def _sample(self) -> None:
        self._recorder.gauge("model_requests_in_flight", self._endpoint.in_flight)
        self._model.sample()
        self._metrics.sample(self._model.versions)
        self._recorder.flush()


def _parse(
    served: dict[str, Any], where: RepositoryConfig, pipelines: list[dict[str, Any]]
) -> tuple[Served, Source]:
    repository = Repository(where.root, Path(where.cache_dir))
    if "kind" not in served:
        model = ModelConfig.model_validate(served)
        return model, RepositorySource(
            repository, model.name, model.ray_actor_options, model_options(model)
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


async def _repeat(action: Callable[[], Awaitable[None]], period_s: float) -> None:
    said = ""
    while True:
        await asyncio.sleep(period_s)
        try:
            await action()
            said = ""
        except ServeError as err:  # the repository is away; once is enough in the log
            if str(err) != said:
                log.warning("%s", err)
            said = str(err)


@ray_serve.ingress()
class GatewayDeployment:
    """A replica of the gateway."""

    def __init__(self) -> None:
        self._recorder = Recorder("gateway")
        self._gateway = Gateway(self._recorder)
        self._flushing: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> Gateway:
        return self._gateway

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a user_config, as applications makes it: the models' names above all."""
        self._gateway.reporter = await _reporter(user_config, self._gateway.reporter)
        self._gateway.apply(tuple(model["name"] for model in user_config["models"]))
        if self._flushing is None:
            self._flushing = asyncio.create_task(_repeat(self._flush, _SAMPLE_PERIOD_S))

    def __del__(self) -> None:
        """Ray Serve calls this once a stopping replica has handled its last request."""
        _close(self._gateway.reporter)

    async def _flush(self) -> None:
        self._recorder.flush()
