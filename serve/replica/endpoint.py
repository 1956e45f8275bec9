"""The ASGI app of one model: V2 and V1 below its route prefix `/v2/models/<name>`.

One endpoint a replica. Requests from the ingress come in through `__call__`, those of the gateway,
which a Ray Serve handle brings, through `respond`. A request reads top to bottom: target, decode,
infer, encode. Whatever it ends with, its exchange is recorded once, in `_respond`, which raises
nothing: what was not foreseen is a 500 in JSON, and what fails beside a request leaves it alone.

    GET  [/versions/V]            model metadata            GET  [/versions/V]/ready
    POST [/versions/V]/infer      Open Inference Protocol V2
    GET  [/versions/V]/openapi.json    what these paths take, for tools
    *    /v1[...]                 what TensorFlow Serving has under /v1/models/<name>[...]
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from serve.edge import deadlines, priority
from serve.edge.asgi import Disconnected, Receive, Scope, Send
from serve.edge.http import (
    JSON,
    OCTETS,
    HttpRequest,
    HttpResponse,
    client_closed_request,
    error_response,
    read_request,
    send_response,
    v2_json_length,
)
from serve.edge.off_loop import CODEC_BYTES, off_loop
from serve.edge.places import without_places
from serve.edge.presence import Presence
from serve.edge.routes import Target, parse_path
from serve.edge.unforeseen import unforeseen
from serve.errors import DeadlineExceeded, InferenceFailed, ModelNotFound, ServeError
from serve.protocols import metadata_v2, openapi, rest_v1, rest_v2
from serve.protocols.json_documents import encode_json
from serve.quotas.keeper import Quotas
from serve.replica.loaded_version import LoadedVersion
from serve.replica.model import Model
from serve.telemetry.exchange import Exchange, server_timing
from serve.telemetry.faults import Faults
from serve.telemetry.request_metrics import RequestMetrics
from serve.telemetry.request_reporter import Reporter
from serve.types import InferRequest, InferResponse

log = logging.getLogger("ray.serve")

Encode = Callable[[InferResponse], HttpResponse]
# Makes a model ready for a request: what its path asks for, and what tells the seconds it has left.
Prepare = Callable[[str, Callable[[], float]], Awaitable[None]]
_STRING_BYTES = 64
_INFERENCES = ("infer", "predict")


class ModelEndpoint:
    """Speaks V2 and V1 for one model.

    `is_alone` tells whether the replica has no other request, where it serves others, too;
    `prepare` is set where the model may have to be loaded first, `quotas` where tenants may have so
    many rows or seconds only.
    """

    def __init__(
        self,
        model: Model,
        max_body_bytes: int,
        metrics: RequestMetrics,
        is_alone: Callable[[], bool] | None = None,
    ) -> None:
        self._model = model
        self._is_alone = is_alone or self._has_one_request
        self.prepare: Prepare | None = None
        self.quotas: Quotas | None = None
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._handlers: dict[
            tuple[str, str], Callable[[Target, Exchange], Awaitable[HttpResponse]]
        ] = {
            ("v2", "infer"): self._infer,
            ("v2", "metadata"): self._metadata_v2,
            ("v2", "ready"): self._ready_v2,
            ("v2", "openapi.json"): self._openapi,
            ("v1", "predict"): self._infer,
            ("v1", "metadata"): self._metadata_v1,
            ("v1", "status"): self._status_v1,
        }
        self.in_flight = 0
        # Of requests that got a 500 for it, and of what is recorded and reported about requests.
        self.request_faults = Faults("request", f"model '{model.name}'")
        self.report_faults = Faults("report", f"reporting a request of model '{model.name}'")
        self.reporter: Reporter | None = None

    def _has_one_request(self) -> bool:
        return self.in_flight <= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request that came straight from the ingress."""
        if scope["type"] != "http":
            return
        self.in_flight += 1
        started = time.perf_counter()
        request = None
        try:
            self._look_in(scope)
            with Presence(receive) as presence:
                request = await read_request(
                    scope, receive, self._max_body_bytes, presence, self._model.request_timeout_s
                )
                response = await self._respond(request, started)
        except Disconnected:
            return
        except Exception as err:  # the body could not be read, or need not be
            unread = HttpRequest(scope["method"], scope["path"], dict(scope["headers"]))
            response = await self._respond(unread, started, refused=err)
        finally:
            self.in_flight -= 1
        await send_response(response, request, send)

    def _look_in(self, scope: Scope) -> None:
        """Raise QueueFull for an inference that might not wait, before its body costs anything."""
        target = parse_path(scope["path"])
        if target.verb not in _INFERENCES or scope["method"] != "POST" or not self._model.versions:
            return
        with suppress(ModelNotFound):  # which is said once the request is read
            loaded = self._model.choose(target.version, target.label)
            admission = loaded.batcher.admission
            if admission.is_busy:
                admission.look_in(priority.of(dict(scope["headers"])))

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request that the gateway has read."""
        self.in_flight += 1
        try:
            return await self._respond(request, time.perf_counter())
        finally:
            self.in_flight -= 1

    async def _respond(
        self, request: HttpRequest, started: float, refused: Exception | None = None
    ) -> HttpResponse:
        """Return the response and record the exchange; `refused` is why there is no body."""
        read = time.perf_counter()
        reporter = self.reporter
        traced = None
        if reporter is not None:
            with self.report_faults.noted():
                traced = reporter.begin(request, started)
        target = parse_path(request.path)
        exchange = self._exchange(request, target, started, read)
        try:
            response = await self._answered(target, exchange, refused)
        except asyncio.CancelledError:  # the client has gone, which the metrics shall say
            self._end(exchange, client_closed_request(), reporter, traced)
            raise
        except Exception as err:
            self.request_faults.count()
            response = unforeseen(err, request, f"the replica of model '{self._model.name}'")
        self._end(exchange, response, reporter, traced)
        return response

    def _end(
        self,
        exchange: Exchange,
        response: HttpResponse,
        reporter: Reporter | None,
        traced: Any,
    ) -> None:
        """Record an exchange, whatever fails about that."""
        if exchange.account is not None:
            response.headers += exchange.account.headers
        exchange.end(response)
        with self.report_faults.noted():
            self._record(exchange, response)
        if reporter is not None:
            with self.report_faults.noted():
                reporter.end(traced, exchange)

    async def _answered(
        self, target: Target, exchange: Exchange, refused: Exception | None
    ) -> HttpResponse:
        try:
            if refused is not None:
                raise refused
            refusal = target.refusal(exchange.method)
            if refusal is not None:
                return refusal
            if self.prepare is not None:
                await self.prepare(str(target.verb), partial(self._left_s, exchange))
            return await self._handlers[target.protocol, str(target.verb)](target, exchange)
        except ServeError as err:
            return self._failed(err)

    def _exchange(
        self, request: HttpRequest, target: Target, started: float, read: float
    ) -> Exchange:
        return Exchange(
            model=self._model.name,
            protocol=target.protocol,
            started=started,
            read=read,
            path=target.path,
            request=request,
            tenant=self._metrics.tenant(request.headers),
        )

    def _record(self, exchange: Exchange, response: HttpResponse) -> None:
        self._metrics.record(exchange)
        if exchange.inferred is not None:
            seconds = exchange.ended - exchange.started
            header = server_timing(exchange.inferred.timing, seconds)
            response.headers.append((b"server-timing", header))

    def _failed(self, err: ServeError) -> HttpResponse:
        if isinstance(err, InferenceFailed):
            log.error("model '%s': %s", self._model.name, err, exc_info=err.__cause__ or err)
        return error_response(err)

    async def _infer(self, target: Target, exchange: Exchange) -> HttpResponse:
        """Decode, infer and encode, in either protocol."""
        assert exchange.request is not None
        if not self._model.versions:
            await self._model.arrival(deadlines.timeout_s(exchange.request.headers))
        loaded = self._model.choose(target.version, target.label)
        exchange.version = str(loaded.number)
        with loaded.batcher.held():  # another version may come while this one is waited for
            inferred, encode = await self._inferred(loaded, target, exchange)
        is_large = _size(inferred) >= CODEC_BYTES
        response = await off_loop(encode, inferred) if is_large else encode(inferred)
        exchange.inferred = inferred
        return response

    async def _inferred(
        self, loaded: LoadedVersion, target: Target, exchange: Exchange
    ) -> tuple[InferResponse, Encode]:
        """Return a version's outputs for a request, and what makes its response of them."""
        assert exchange.request is not None
        decode = _decode_v1 if target.protocol == "v1" else _decode_v2
        if len(exchange.request.body) >= CODEC_BYTES:
            request, encode = await off_loop(decode, exchange.request, loaded, exchange.tenant)
        else:
            request, encode = decode(exchange.request, loaded, exchange.tenant)
        request.priority = priority.of(exchange.request.headers)
        allowed_s = self._allowed_s(request, exchange.request)
        request.timeout_s = deadlines.left_s(allowed_s, exchange.started)
        if self.quotas is not None:
            exchange.account = self.quotas.account(exchange.request.headers)
        try:
            inferred = await self._model.infer_with(
                loaded, request, self._is_alone, exchange.account
            )
        except DeadlineExceeded:
            # The batcher knows what was left, not what was allowed; a layer has less of its own.
            deadlines.left_s(allowed_s, exchange.started)
            raise
        return inferred, encode

    def _left_s(self, exchange: Exchange) -> float:
        """Return the seconds that a request has left, as far as its headers tell."""
        assert exchange.request is not None
        by_header_s = deadlines.timeout_s(exchange.request.headers)
        return deadlines.left_s(min(self._model.request_timeout_s, by_header_s), exchange.started)

    def _allowed_s(self, request: InferRequest, http: HttpRequest) -> float:
        """Return the seconds from its first byte that a request may take."""
        by_header_s = deadlines.timeout_s(http.headers)
        by_body_s = by_header_s if request.timeout_s is None else request.timeout_s
        return min(self._model.request_timeout_s, by_header_s, by_body_s)

    async def _metadata_v2(self, target: Target, exchange: Exchange) -> HttpResponse:
        loaded = self._model.choose(target.version, target.label)
        signature = loaded.signature(None)
        metadata = metadata_v2.model_metadata(
            self._model.name,
            [str(number) for number in sorted(self._model.versions)],
            loaded.engine.platform,
            replace(signature, batched_reason=without_places(signature.batched_reason)),
            (loaded.engine.name, without_places(loaded.engine.reason)),
        )
        return HttpResponse(200, encode_json(metadata))

    async def _ready_v2(self, target: Target, exchange: Exchange) -> HttpResponse:
        self._model.number_served(target.version, target.label)
        return HttpResponse(200, encode_json({"name": self._model.name, "ready": True}))

    async def _openapi(self, target: Target, exchange: Exchange) -> HttpResponse:
        loaded = self._model.choose(target.version, target.label)
        document = openapi.model_document(
            self._model.name,
            target.below.removesuffix("/openapi.json"),
            str(loaded.number),
            loaded.engine.signatures,
            loaded.engine.default_signature,
        )
        return HttpResponse(200, encode_json(document))

    async def _metadata_v1(self, target: Target, exchange: Exchange) -> HttpResponse:
        loaded = self._model.choose(target.version, target.label)
        metadata = rest_v1.metadata(self._model.name, str(loaded.number), loaded.engine.signatures)
        return HttpResponse(200, encode_json(metadata))

    async def _status_v1(self, target: Target, exchange: Exchange) -> HttpResponse:
        states = dict.fromkeys(self._model.loading, "LOADING")
        states |= dict.fromkeys(self._model.versions or self._model.resting, "AVAILABLE")
        unavailable = self._model.unavailable().items()
        failures = {n: without_places(why) for n, why in unavailable if n not in states}
        if target.version is not None or target.label is not None:
            chosen = self._model.number_served(target.version, target.label)
            states, failures = {chosen: "AVAILABLE"}, {}
        return HttpResponse(200, encode_json(rest_v1.status(self._model.name, states, failures)))


def _size(inferred: InferResponse) -> int:
    """Return about how many bytes the outputs are; strings are taken as some words each."""
    return sum(
        array.size * _STRING_BYTES if array.dtype.hasobject else array.nbytes
        for array in inferred.outputs.values()
    )


def _decode_v2(
    request: HttpRequest, loaded: LoadedVersion, tenant: str
) -> tuple[InferRequest, Encode]:
    """Return a V2 request's tensors, and what makes its response of theirs."""
    json_length = v2_json_length(request)
    raw_signature = loaded.signature(None) if json_length == 0 else None
    decoded, form = rest_v2.decode_request(request.body, json_length, raw_signature, tenant=tenant)

    def encode(inferred: InferResponse) -> HttpResponse:
        body, json_length = rest_v2.encode_response(inferred, form)
        if json_length is None:
            return HttpResponse(200, body)
        length = (b"inference-header-content-length", b"%d" % json_length)
        return HttpResponse(200, body, [OCTETS, length])

    return decoded, encode


def _decode_v1(
    request: HttpRequest, loaded: LoadedVersion, tenant: str
) -> tuple[InferRequest, Encode]:
    """Return a V1 request's tensors, and what makes its response of theirs."""
    engine = loaded.engine
    decoded, row_form = rest_v1.decode_predict(
        request.body, engine.signatures, engine.default_signature, tenant=tenant
    )

    def encode(inferred: InferResponse) -> HttpResponse:
        signature = loaded.signature(inferred.signature)
        return HttpResponse(200, rest_v1.encode_predict(inferred, signature, row_form), [JSON])

    return decoded, encode
