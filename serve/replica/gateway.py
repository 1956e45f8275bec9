"""Everything that is not for a replica of one model: health, lists, models that have none.

Built by deployments.GatewayDeployment at the route prefix `/`. A model's paths come here while none
of its replicas is up: one that failed is told why, one that starts or sleeps is waited for. Those
of a model in a pool come here until HAProxy has learned of the pool, from a header of the response.
Behind Ray's own proxy V1 paths come here always, since a route prefix cannot express them, and so
does all that is for models in pools.

    GET  /                          V1 liveness           GET  /v2, /v2/health/live, .../ready
    GET  /v1/models                 names                 GET  /v2/models, /openapi.json
    *    /v1/models/<name>[...]     to the model          POST /v2/repository/index
    *    /v2/models/<name>[...]     to the model
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import RayServeException

from serve import __version__
from serve.config.sections import Limits
from serve.edge import deadlines
from serve.edge.asgi import Disconnected, Receive, Scope, Send
from serve.edge.http import (
    POOL_HEADER,
    HttpRequest,
    HttpResponse,
    error_response,
    read_request,
    send_response,
)
from serve.edge.presence import Presence
from serve.edge.routes import Target, parse_path
from serve.edge.unforeseen import unforeseen
from serve.errors import ModelNotFound, ModelNotReady, ServeError
from serve.pipelines.remote import Place, outcome, translated
from serve.protocols import metadata_v2, openapi
from serve.protocols.json_documents import encode_json
from serve.replica.application_states import ApplicationStates
from serve.replica.edges import restart_edges
from serve.telemetry.exchange import Exchange
from serve.telemetry.faults import Faults
from serve.telemetry.metrics import PROTOCOLS, UNKNOWN_MODEL
from serve.telemetry.metrics_recorder import Recorder, Sum
from serve.telemetry.request_reporter import Reporter

_DEFAULT_LIMITS = Limits()
_RETRIES = 2
_CALL_TIMEOUT_S = 30.0
# A replica says itself that a request's time is up; it is waited for so much longer.
_GRACE_S = 1.0
# An inference waits so long for the first replica of its model, beyond the time that it may take.
_START_S = 300.0
# Counted from 0 on, so that the first one shows in a rate.
_CODES_FROM_THE_START = (429, 503)


class Gateway:
    """The ASGI app of the gateway; `models` are the names that are configured."""

    def __init__(self, recorder: Recorder) -> None:
        self.models: Sequence[str] = ()
        self._awaited: Collection[str] = ()
        self._limits: Mapping[str, Limits] = {}
        self._pools: Mapping[str, str] = {}
        self._recorder = recorder
        self.reporter: Reporter | None = None
        # Of requests that got a 500 for it, and of what is reported about requests.
        self.request_faults = Faults("request", "the gateway")
        self.report_faults = Faults("report", "reporting a request of the gateway")
        self.states = ApplicationStates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request: what is the platform's own, and what no replica was there for."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        target = parse_path(scope["path"])
        request = None
        try:
            limits = self._limits_of(target)
            with Presence(receive) as presence:
                request = await read_request(
                    scope, receive, limits.max_body_bytes, presence, limits.request_timeout_s
                )
                response = await self._respond(request, target, started)
        except Disconnected:
            return
        except Exception as err:  # the body could not be read
            unread = HttpRequest(scope["method"], scope["path"], dict(scope["headers"]))
            response = await self._respond(unread, target, started, refused=err)
        if not response.by_replica:
            self._count(target, response.status)
        await send_response(response, request, send)

    async def handle_http(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that a pool had for a model that is elsewhere."""
        target = parse_path(request.path)
        response = await self._respond(request, target, time.perf_counter())
        if not response.by_replica:
            self._count(target, response.status)
        return response

    def apply(
        self,
        models: Sequence[str],
        limits: Mapping[str, Limits] = MappingProxyType({}),
        awaited: Collection[str] = (),
        pools: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Take the names of the models, and what those accept whose limits are not the default.

        Those that are `awaited` have no version yet; the platform is ready without them. `pools`
        says of those that are in one which it is.
        """
        self.models = models
        self._awaited = awaited
        self._limits = limits
        self._pools = pools
        for name in models:
            for protocol in PROTOCOLS:
                for code in _CODES_FROM_THE_START:
                    self._requests(name, protocol, code)

    async def _respond(
        self,
        request: HttpRequest,
        target: Target,
        started: float,
        refused: Exception | None = None,
    ) -> HttpResponse:
        """Return the response and report the exchange; `refused` is why there is no body."""
        reporter = self.reporter
        traced = None
        if reporter is not None:
            with self.report_faults.noted():
                traced = reporter.begin(request, started)
        try:
            response = await self._answered(request, target, started, refused)
        except Exception as err:
            self.request_faults.count()
            response = unforeseen(err, request, "the gateway")
        if reporter is not None:
            exchange = Exchange(
                model=self._model_of(target) or "gateway",
                protocol=target.protocol,
                started=started,
                path=target.path,
                request=request,
            )
            exchange.end(response)
            with self.report_faults.noted():
                reporter.end(traced, exchange, line=not response.by_replica)
        return response

    async def _answered(
        self, request: HttpRequest, target: Target, started: float, refused: Exception | None
    ) -> HttpResponse:
        try:
            if refused is not None:
                raise refused
            return await self._handle(request, target, started)
        except ServeError as err:
            return error_response(err)

    def _model_of(self, target: Target) -> str | None:
        """Return the model that is asked for, None for no model's path; unknown ones are one."""
        if target.model is None:
            return None
        return target.model if target.model in self.models else UNKNOWN_MODEL

    def _count(self, target: Target, status: int) -> None:
        """Count a request that was for a model, as far as its path tells, and did not reach one."""
        name = self._model_of(target)
        if name is not None:
            self._requests(name, target.protocol, status).add()

    def _requests(self, name: str, protocol: str, code: int) -> Sum:
        return self._recorder.sum("gateway_requests", model=name, protocol=protocol, code=str(code))

    def _limits_of(self, target: Target) -> Limits:
        return self._limits.get(target.model or "", _DEFAULT_LIMITS)

    async def _handle(self, request: HttpRequest, target: Target, started: float) -> HttpResponse:
        """Return the response to a request for the platform, or that of the model it is for."""
        if target.model is not None:
            return await self._to_model(request, target, target.model, started)
        refusal = target.refusal(request.method)
        if refusal is not None:
            return refusal
        handlers: Mapping[str, Callable[[], Awaitable[HttpResponse]]] = {
            "alive": self._alive,
            "metadata": self._server_metadata,
            "live": self._live,
            "ready": self._ready,
            "list": self._list,
            "index": self._index,
            "edge_changed": partial(self._edge_changed, request),
            "openapi.json": self._openapi,
        }
        return await handlers[str(target.verb)]()

    async def _edge_changed(self, request: HttpRequest) -> HttpResponse:
        node = request.body.decode("latin-1")
        return _json({"restarted": await asyncio.to_thread(restart_edges, node)})

    async def _alive(self) -> HttpResponse:
        return _json({"status": "alive"})

    async def _server_metadata(self) -> HttpResponse:
        return _json(metadata_v2.server_metadata("strata", __version__))

    async def _live(self) -> HttpResponse:
        return _json({"live": True})

    async def _ready(self) -> HttpResponse:
        states = await self.states.known() or {}
        here = [name for name in self.models if name not in self._awaited]
        applications = {self._place(name).application: name for name in here}
        ready = all(name in states and states[name].status == "RUNNING" for name in applications)
        ready = ready and not any(await asyncio.gather(*map(self._has_broken, self._one_of_each())))
        return _json({"ready": ready}, 200 if ready else 503)

    def _place(self, name: str) -> Place:
        return Place(name, self._pools.get(name))

    def _one_of_each(self) -> list[Place]:
        """Return a place in each pool that has a model already."""
        here = {pool: name for name, pool in self._pools.items() if name not in self._awaited}
        return [Place(name, pool) for pool, name in here.items()]

    async def _has_broken(self, place: Place) -> bool:
        """Tell whether a pool has models that are not served; one that sleeps is not asked."""
        if await self.states.is_asleep(place.application):
            return False
        try:
            described = await self._described(place)
        except ServeError:
            return True
        return any("reason" in each for each in described.values())

    async def _list(self) -> HttpResponse:
        return _json({"models": list(self.models)})

    async def _openapi(self) -> HttpResponse:
        return _json(openapi.platform_document(self.models, __version__))

    async def _index(self) -> HttpResponse:
        places = {name: self._place(name) for name in self.models if name not in self._awaited}
        # A pool is asked once, for all of its models.
        once = {place.application: place for place in places.values()}
        told = await asyncio.gather(*map(self._described, once.values()), return_exceptions=True)
        by_application = dict(zip(once, told, strict=True))
        told_of = {name: by_application[place.application] for name, place in places.items()}
        told_of |= {name: ModelNotReady(_awaited(name)) for name in self._awaited}
        return _json([each for name in self.models for each in _index_entries(name, told_of[name])])

    async def _described(self, place: Place) -> dict[str, Any]:
        """Return what a replica says of its model, or a pool's of each of its models."""
        if await self.states.is_asleep(place.application):  # to ask a replica would start one
            raise ModelNotReady(metadata_v2.ASLEEP)
        if place.pool is None:
            return {place.model: await self._call(place.model, "describe")}
        described: dict[str, Any] = await self._call(place.model, "describe_all")
        return described

    async def _to_model(
        self, request: HttpRequest, target: Target, model: str, started: float
    ) -> HttpResponse:
        path = request.path
        if target.protocol == "v2":  # unknown, or without a replica that is up
            if model not in self.models:
                raise ModelNotFound(f"Request for unknown model: '{model}' is not found")
        else:
            target.refusal(request.method)  # malformed before unknown
            if model not in self.models:
                raise ModelNotFound(f"Servable not found for request: Latest({model})")
            path = target.inside_model()
        limit_s = self._limits_of(target).request_timeout_s
        by_client_s = deadlines.timeout_s(request.headers)
        application = self._place(model).application
        if target.method == "POST" and await self.states.must_start(application):
            await self.states.until_deployed(application, min(_START_S, by_client_s))
            limit_s += _START_S
        left_s = deadlines.left_s(min(limit_s, by_client_s), started)
        # The time that is left, so that the replica's own begins where the request's did.
        headers = {**request.headers, deadlines.HEADER: deadlines.header_value(left_s)}
        forwarded = HttpRequest(request.method, path, headers, request.body)
        return await self._forward(model, forwarded, left_s)

    async def _forward(self, name: str, request: HttpRequest, left_s: float) -> HttpResponse:
        response: HttpResponse = await self._call(
            name, "handle_http", request, timeout_s=left_s + _GRACE_S
        )
        response.by_replica = True
        if name in self._pools:
            response.headers.append((POOL_HEADER, self._pools[name].encode()))
        return response

    async def _call(
        self, name: str, method: str, *args: Any, timeout_s: float = _CALL_TIMEOUT_S
    ) -> Any:
        """Call a method of a model's replica; Ray's errors become ours here."""
        if name in self._awaited:
            raise ModelNotReady(_awaited(name))
        place = self._place(name)
        await self.states.require_answers(place.application, name)
        call = place.method(place.handle(), method)
        try:
            async with asyncio.timeout(timeout_s):
                return await _call_replica(call, args)
        except (RayError, RayServeException) as err:
            raise translated(err, name) from err
        except TimeoutError as err:
            raise ModelNotReady(f"model '{name}' has no replica that answers") from err


async def _call_replica(call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call a replica; if it dies meanwhile another one is called, twice at most."""
    for _ in range(_RETRIES):
        with contextlib.suppress(RayActorError):
            return await outcome(call(*args))
    return await outcome(call(*args))


def _awaited(name: str) -> str:
    return f"model '{name}' {metadata_v2.AWAITED}"


def _index_entries(name: str, told: dict[str, Any] | BaseException) -> list[dict[str, Any]]:
    """Return the versions of a model, by what a replica has told of it and of others."""
    if isinstance(told, BaseException):
        if not isinstance(told, ServeError):
            raise told
        return [{"name": name, "state": "UNAVAILABLE", "reason": str(told)}]
    described = told.get(name)
    if described is None or "reason" in described:
        why = "its pool has not heard of it yet" if described is None else described["reason"]
        return [{"name": name, "state": "UNAVAILABLE", "reason": why}, *_failed(name, described)]
    failures, together = described["failures"], described["together"]
    # Replicas of before an upgrade do not tell these.
    loading, engines = described.get("loading", {}), described.get("engines", {})
    ready = [
        {
            "name": name,
            "version": str(number),
            "state": "READY",
            **_reason(failures, number),
            **_together(together, number),
            **_engine(engines, number),
        }
        for number in described["versions"]
    ]
    resting = [
        {
            "name": name,
            "version": str(number),
            "state": "UNAVAILABLE",
            "reason": metadata_v2.RESTING,
        }
        for number in described.get("resting", ())
    ]
    coming = [
        {"name": name, "version": str(number), "state": "LOADING", "reason": progress}
        for number, progress in loading.items()
        if number not in described["versions"]
    ]
    return ready + coming + resting + _failed(name, described)


def _failed(name: str, described: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the versions that are not served for their faults."""
    if described is None:
        return []
    return [
        {"name": name, "version": str(number), "state": "UNAVAILABLE", "reason": reason}
        for number, reason in described["failures"].items()
        if number not in described["versions"] and number not in described.get("loading", {})
    ]


def _reason(failures: Mapping[int, str], number: int) -> dict[str, str]:
    """Return what is wrong with the folder of a version that serves as it was loaded before."""
    return {"reason": failures[number]} if number in failures else {}


def _engine(engines: Mapping[int, tuple[str, str]], number: int) -> dict[str, str]:
    if number not in engines:
        return {}
    name, reason = engines[number]
    return {"engine": name, "engine_reason": reason}


def _together(reasons: Mapping[int, str], number: int) -> dict[str, str]:
    """Return how a version's rows are computed, where that is not as usual."""
    return {"rows": "together", "rows_reason": reasons[number]} if number in reasons else {}


def _json(value: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(status, encode_json(value))
