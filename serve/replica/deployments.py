"""The classes that Ray Serve runs as replicas: of a model, of a pool of models, of the gateway.

They build the parts and hand them the user_config, nothing more. What a model's replica does is in
servable, what a pool's does in pool, what the gateway does in gateway.
"""

import asyncio
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve as ray_serve
from ray.exceptions import RayError
from ray.serve._private.common import RequestMetadata, RequestProtocol
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.exceptions import RayServeException

from serve.config.pipelines import PIPELINE, Pipeline
from serve.config.schema import Model as ModelConfig
from serve.config.schema import Repository as RepositoryConfig
from serve.config.sections import Limits, Served
from serve.config.sections import Pool as PoolConfig
from serve.edge.http import HttpRequest, HttpResponse
from serve.edge.middleware import Answered, answer_here
from serve.errors import InvalidRequest, ModelNotReady
from serve.pipelines.remote import Place, RemoteMember, outcome
from serve.quotas.keeper import TICK_EACH_S, Keeper
from serve.quotas.ledger import Ledger, Report, Told
from serve.replica.edges import take_settings
from serve.replica.endpoint import ModelEndpoint
from serve.replica.gateway import Gateway
from serve.replica.loaded_version import Source
from serve.replica.pod_readiness import pod_was_ready
from serve.replica.pool import Pool
from serve.replica.servable import Servable
from serve.replica.tasks import Tasks
from serve.replica.version_sources import PipelineSource, RepositorySource, engine_options
from serve.repository.repository import configured
from serve.telemetry.faults import Faults
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_reporter import Replica, Reporter, reporter_for
from serve.types import InferRequest, InferResponse, Signature

log = logging.getLogger("ray.serve")

_SAMPLE_PERIOD_S = 1.0
_TELL_TIMEOUT_S = 5.0

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
    """A replica of one model or pipeline; `pipelines` are those that are nested in it.

    `pools` says by model in which pool those are whose replicas a pipeline calls.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it, on the loop that members need
        self,
        served: dict[str, Any],
        repository: dict[str, Any],
        pipelines: list[dict[str, Any]] | None = None,
        pools: dict[str, str] | None = None,
    ) -> None:
        where = RepositoryConfig.model_validate(repository)
        config, source = _parse(served, where, pipelines or [], pools or {})
        self.servable = Servable(config, source, Recorder(config.name), where.poll_interval_s)
        self._quotas = Keeper(_replica_id(), _tell_gateway)
        self._is_started = False

    def __serve_build_asgi_app__(self) -> ModelEndpoint:
        endpoint = self.servable.endpoint
        answer_here(Answered(endpoint, f"/v2/models/{self.servable.name}", _A_REQUEST))
        return endpoint

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a user_config, as applications makes it; the first call loads the model.

        A replica that has nothing to serve raises what failed.
        """
        await self.servable.take(
            user_config,
            reporter=partial(self._take_reporter, user_config),
            quotas=partial(self._take_quotas, user_config),
        )
        self.servable.model.require_ready()
        if not self._is_started:
            await pod_was_ready()
        _begin_serving()
        self.servable.start_tasks()
        self._is_started = True

    async def _take_reporter(self, user_config: dict[str, Any]) -> None:
        endpoint = self.servable.endpoint
        endpoint.reporter = await _reporter(user_config, endpoint.reporter)

    async def _take_quotas(self, user_config: dict[str, Any]) -> None:
        name = self.servable.name
        header = user_config["tenants"]["header"]
        await self._quotas.apply(user_config.get("quotas"), [name], header)
        self.servable.take_quotas(self._quotas.of(name))
        if self._quotas.has_any:
            self.servable.tasks.start("quotas", self._quotas.tick, TICK_EACH_S)

    async def check_health(self) -> None:
        """Ray Serve replaces a replica whose health check raises."""
        if self._is_started:
            self.servable.require_versions()
            self.servable.require_healthy()

    async def handle_http(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that the gateway passes on."""
        return await self.servable.endpoint.respond(request)

    async def infer(self, request: InferRequest) -> InferResponse | InvalidRequest:
        """Return the outputs, or a client's mistake, for a pipeline that calls this model."""
        return await self.servable.infer(request)

    async def signature(self, version: int | None) -> Signature:
        """Return a version's default signature, for a pipeline that is being built."""
        return self.servable.model.choose(version, None).signature(None)

    async def describe(self) -> dict[str, Any]:
        """Return what Servable says of this replica's model."""
        return self.servable.describe()

    def __del__(self) -> None:
        """Ray Serve calls this once a stopping replica has handled its last request.

        And Python does for one whose __init__ raised, which has no endpoint.
        """
        servable: Servable | None = getattr(self, "servable", None)
        if servable is not None:
            _close(servable.endpoint.reporter)


@ray_serve.ingress()
class PoolDeployment:
    """A replica of a pool: the models of its user_config, each as in a replica of its own."""

    async def __init__(  # type: ignore[misc]  # Ray awaits it, on its event loop
        self, pool: dict[str, Any], repository: dict[str, Any]
    ) -> None:
        config = PoolConfig.model_validate(pool)
        where = RepositoryConfig.model_validate(repository)
        self.pool = Pool(config, where, Recorder, _ask_gateway)
        self.pool.members.keeper = Keeper(_replica_id(), _tell_gateway)
        self._reporter: Reporter | None = None
        self._is_started = False

    def __serve_build_asgi_app__(self) -> Pool:
        # By Ray's own way come only requests for the pool's route prefix, which is nobody's path.
        answer_here(Answered(self.pool, "/v2/models", _A_REQUEST))
        return self.pool

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply a user_config, as applications makes it: add, change and remove models in place.

        Returns once each of them was tried to be loaded, whatever came of it, or after a bound.
        """
        await self.pool.members.take(user_config, partial(self._take_reporter, user_config))
        if not self._is_started:
            await pod_was_ready()
        _begin_serving()
        self._is_started = True

    async def _take_reporter(self, user_config: dict[str, Any]) -> Reporter | None:
        self._reporter = await _reporter(user_config, self._reporter)
        return self._reporter

    async def check_health(self) -> None:
        """Ray Serve replaces a replica whose health check raises."""
        self.pool.members.require_healthy()

    async def handle_http(self, model: str, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that the gateway passes on."""
        return await self.pool.respond(model, request)

    async def infer(self, model: str, request: InferRequest) -> InferResponse | InvalidRequest:
        """Return the outputs, or a client's mistake, for a pipeline that calls a model."""
        return await self.pool.infer(model, request)

    async def signature(self, model: str, version: int | None) -> Signature:
        """Return a version's default signature, for a pipeline that is being built."""
        return await self.pool.signature(model, version)

    async def describe_all(self, model: str) -> dict[str, dict[str, Any]]:
        """Return what Servable says of each model of the pool that one is in, by name."""
        return self.pool.members.describe()

    def __del__(self) -> None:
        """Ray Serve calls this once a stopping replica has handled its last request."""
        _close(getattr(self, "_reporter", None))


def _replica_id() -> str:
    return str(ray_serve.get_replica_context().replica_id.unique_id)


async def _tell_gateway(report: Report) -> Told | None:
    """Tell the gateway what this replica counted; None if it does not answer."""
    try:
        handle = ray_serve.get_deployment_handle("gateway", app_name="gateway")
        async with asyncio.timeout(_TELL_TIMEOUT_S):
            told: Told = await outcome(handle.take_report.remote(report))
    except (RayError, RayServeException, TimeoutError, KeyError) as err:  # KeyError: not there yet
        log.debug("the gateway does not take what quotas have left: %s", err)
        return None
    return told


async def _ask_gateway(request: HttpRequest) -> HttpResponse:
    """Return the gateway's response to a request for a model that has moved away."""
    try:
        handle = ray_serve.get_deployment_handle("gateway", app_name="gateway")
        response: HttpResponse = await outcome(handle.handle_http.remote(request))
    except (RayError, RayServeException, KeyError) as err:  # KeyError: it is not there yet
        raise ModelNotReady("the gateway does not answer; try again") from err
    return response


def _begin_serving() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL_S)  # once imports and loading no longer suffer


def _parse(
    served: dict[str, Any],
    where: RepositoryConfig,
    pipelines: list[dict[str, Any]],
    pools: dict[str, str],
) -> tuple[Served, Source]:
    repository = configured(where)
    if "kind" not in served:
        model = ModelConfig.model_validate(served)
        return model, RepositorySource(
            repository, model.name, model.ray_actor_options, engine_options(model)
        )
    nested: list[Pipeline] = [PIPELINE.validate_python(tree) for tree in pipelines]
    pipeline: Pipeline = PIPELINE.validate_python(served)
    timeout_s, loop = pipeline.limits.request_timeout_s, asyncio.get_running_loop()

    def remote(label: str, model: str, version: int | None) -> RemoteMember:
        place = Place(model, pools.get(model))
        return RemoteMember(label, place, version, timeout_s=timeout_s, loop=loop)

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


@ray_serve.ingress()
class GatewayDeployment:
    """A replica of the gateway."""

    def __init__(self) -> None:
        self._recorder = Recorder("gateway")
        self._ledger = Ledger()
        self._gateway = Gateway(self._recorder)
        self._change_faults = Faults("change", "a change of the gateway")
        self._tasks = Tasks("the gateway")

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
        awaited = {each["name"] for each in user_config.get("awaited", ())}
        pools = {model["name"]: model["pool"] for model in models if "pool" in model}
        self._gateway.apply(tuple(model["name"] for model in models), limits, awaited, pools)
        if "edge" in user_config:
            with self._change_faults.noted():
                await asyncio.to_thread(take_settings, user_config["edge"])
        with self._change_faults.noted():  # the models are reached without traces and log, too
            self._gateway.reporter = await _reporter(user_config, self._gateway.reporter)
        self._tasks.start("flush", self._flush, _SAMPLE_PERIOD_S)

    async def handle_http(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that a pool had for a model that is elsewhere."""
        return await self._gateway.handle_http(request)

    async def take_report(self, report: Report) -> Told:
        """Return what a replica is told of the others that keep quotas."""
        return self._ledger.take(report)

    async def check_health(self) -> None:
        """Ray Serve replaces a replica whose health check raises."""
        self._tasks.require_running()

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
            self._tasks.faults,
        ):
            self._recorder.count("internal_errors", faults.take(), place=faults.place)
        self._recorder.flush()
