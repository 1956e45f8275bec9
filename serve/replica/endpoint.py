"""The HTTP paths of one model, under its route prefix `/v2/models/<name>`.

One endpoint a replica: the replica's ASGI app calls it for requests from the ingress, the gateway
calls it through a handle for V1 paths, which the prefix cannot express. A request reads
top to bottom: route, decode, infer, encode; errors and metrics are handled once, around it.

    GET  [/versions/V]            model metadata            GET  [/versions/V]/ready
    POST [/versions/V]/infer      Open Inference Protocol V2
    *    /v1[...]                 what TensorFlow Serving has under /v1/models/<name>[...]
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from serve.edge.http import (
    JSON,
    OCTETS,
    Disconnected,
    HttpRequest,
    HttpResponse,
    Receive,
    Scope,
    Send,
    error_response,
    method_not_allowed,
    read_request,
    send_response,
    v2_json_length,
)
from serve.errors import InferenceFailed, ServeError
from serve.protocols import metadata_v2, rest_v1, rest_v2
from serve.protocols.errors import encode_error, encode_json
from serve.replica.model import LoadedVersion, Model
from serve.telemetry.exchange import exchange_of, server_timing
from serve.telemetry.reporter import Reporter
from serve.telemetry.request_metrics import NO_VERSION, Accounts, Answered
from serve.types import InferResponse

log = logging.getLogger("ray.serve")

_TARGET = re.compile(r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/]+))?(?P<verb>/.*)?")


@dataclass(slots=True)
class _Target:
    """What a path asks for: a verb, and at most one of version and label."""

    verb: str
    version: int | None = None
    label: str | None = None


@dataclass(slots=True)
class _Answer:
    """A response and what the metrics and Server-Timing say about it."""

    response: HttpResponse
    inferred: InferResponse | None = None
    version: str = NO_VERSION


class ModelEndpoint:
    """Speaks V2 and V1 for one model."""

    def __init__(self, model: Model, max_body_bytes: int, accounts: Accounts) -> None:
        self._model = model
        self._max_body_bytes = max_body_bytes
        self._accounts = accounts
        self._prefix = len(f"/v2/models/{model.name}")
        self.in_flight = 0
        self.reporter: Reporter | None = None

    def _is_alone(self) -> bool:
        return self.in_flight <= 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI request that came straight from the ingress."""
        if scope["type"] != "http":
            return
        self.in_flight += 1
        started = time.perf_counter()
        request = None
        try:
            request = await read_request(scope, receive, self._max_body_bytes)
            response = await self.answer(request, started)
        except ServeError as err:  # the body could not be read
            response = error_response(err)
            unread = HttpRequest(scope["method"], scope["path"], dict(scope["headers"]))
            self._record(unread, "v2", _Answer(response), started, time.perf_counter())
            if self.reporter is not None:
                self.reporter.refused(unread, response, self._model.name, started)
        except Disconnected:
            return
        finally:
            self.in_flight -= 1
        await send_response(response, request, send)

    async def answer(self, request: HttpRequest, started: float | None = None) -> HttpResponse:
        """Answer a request whose path begins with this model's prefix."""
        read = time.perf_counter()
        started = started or read
        reporter = self.reporter
        traced = None if reporter is None else reporter.begin(request, started)
        path = request.path[self._prefix :]
        protocol = "v1" if path.startswith(("/v1/", "/v1:")) or path == "/v1" else "v2"
        try:
            route = self._v1 if protocol == "v1" else self._v2
            answer = await route(request, path)
        except ServeError as err:
            answer = _Answer(self._failed(err))
        self._record(request, protocol, answer, started, read)
        if reporter is not None:
            version = None if answer.version == NO_VERSION else answer.version
            whose = (self._model.name, version, protocol)
            told = partial(exchange_of, request, answer.response, whose, started, answer.inferred)
            reporter.end(traced, told, answer.response)
        return answer.response

    async def answer_forwarded(self, request: HttpRequest) -> HttpResponse:
        """Answer a request that the gateway has read."""
        self.in_flight += 1
        try:
            return await self.answer(request)
        finally:
            self.in_flight -= 1

    def _failed(self, err: ServeError) -> HttpResponse:
        if isinstance(err, InferenceFailed):
            log.error("model '%s': %s", self._model.name, err, exc_info=err.__cause__ or err)
        return error_response(err)

    # ------------------------------------------------------------------ Open Inference Protocol

    async def _v2(self, request: HttpRequest, path: str) -> _Answer:
        if path == "/infer":
            return await self._infer_v2(request, _Target(path))
        target = _parse_target(path)
        verbs: dict[str, tuple[str, Callable[[HttpRequest, _Target], Awaitable[_Answer]]]] = {
            "": ("GET", self._metadata_v2),
            "/ready": ("GET", self._ready_v2),
            "/infer": ("POST", self._infer_v2),
        }
        if target is None or target.verb not in verbs:
            return _Answer(HttpResponse(404, encode_error("Not Found")))
        method, handler = verbs[target.verb]
        if request.method != method:
            return _Answer(method_not_allowed(method))
        return await handler(request, target)

    async def _infer_v2(self, request: HttpRequest, target: _Target) -> _Answer:
        if request.method != "POST":
            return _Answer(method_not_allowed("POST"))
        loaded = self._model.choose(target.version, target.label)
        return await self._by_version(loaded, self._infer_v2_with(loaded, request, target))

    async def _by_version(self, loaded: LoadedVersion, answering: Awaitable[_Answer]) -> _Answer:
        """Return an answer that says which version gave it, or failed to."""
        try:
            answer = await answering
        except ServeError as err:
            answer = _Answer(self._failed(err))
        answer.version = str(loaded.number)
        return answer

    async def _infer_v2_with(
        self, loaded: LoadedVersion, request: HttpRequest, target: _Target
    ) -> _Answer:
        json_length = v2_json_length(request)
        decoded, output_format = rest_v2.decode_request(
            request.body, json_length, loaded.signature(None) if json_length == 0 else None
        )
        decoded.version, decoded.label = target.version, target.label
        decoded.tenant = self._accounts.tenant(request.headers)
        inferred = await self._model.infer(decoded, self._is_alone)
        body, json_length = rest_v2.encode_response(inferred, output_format)
        response = HttpResponse(200, body, [JSON if json_length is None else OCTETS])
        if json_length is not None:
            response.headers.append((b"inference-header-content-length", b"%d" % json_length))
        return _Answer(response, inferred)

    async def _metadata_v2(self, request: HttpRequest, target: _Target) -> _Answer:
        loaded = self._model.choose(target.version, target.label)
        metadata = metadata_v2.model_metadata(
            self._model.name,
            [str(number) for number in sorted(self._model.versions)],
            loaded.engine.platform,
            loaded.signature(None),
        )
        return _Answer(HttpResponse(200, encode_json(metadata)))

    async def _ready_v2(self, request: HttpRequest, target: _Target) -> _Answer:
        self._model.choose(target.version, target.label)
        ready = {"name": self._model.name, "ready": True}
        return _Answer(HttpResponse(200, encode_json(ready)))

    # ------------------------------------------------------------------ TensorFlow Serving REST

    async def _v1(self, request: HttpRequest, path: str) -> _Answer:
        whole = f"/v1/models/{self._model.name}{path.removeprefix('/v1')}"
        target = rest_v1.parse_path(request.method, whole)
        if target.verb == "predict":
            return await self._predict_v1(request, target)
        if target.verb == "metadata":
            loaded = self._model.choose(target.version, target.label)
            metadata = rest_v1.metadata(
                self._model.name, str(loaded.number), loaded.engine.signatures
            )
            return _Answer(HttpResponse(200, encode_json(metadata)))
        return _Answer(HttpResponse(200, encode_json(self._status_v1(target))))

    def _status_v1(self, target: rest_v1.V1Path) -> dict[str, object]:
        states = dict.fromkeys(self._model.versions, "AVAILABLE")
        if target.version is not None or target.label is not None:
            chosen = self._model.choose(target.version, target.label).number
            states = {chosen: "AVAILABLE"}
        failures = {} if target.version or target.label else self._model.failures
        return rest_v1.status(self._model.name, states, failures)

    async def _predict_v1(self, request: HttpRequest, target: rest_v1.V1Path) -> _Answer:
        loaded = self._model.choose(target.version, target.label)
        return await self._by_version(loaded, self._predict_v1_with(loaded, request, target))

    async def _predict_v1_with(
        self, loaded: LoadedVersion, request: HttpRequest, target: rest_v1.V1Path
    ) -> _Answer:
        decoded, row_format = rest_v1.decode_predict(
            request.body, loaded.engine.signatures, loaded.engine.default_signature
        )
        decoded.version, decoded.label = target.version, target.label
        decoded.tenant = self._accounts.tenant(request.headers)
        inferred = await self._model.infer(decoded, self._is_alone)
        signature = loaded.signature(inferred.signature)
        body = rest_v1.encode_predict(inferred, signature, row_format)
        return _Answer(HttpResponse(200, body), inferred)

    # ------------------------------------------------------------------ metrics

    def _record(
        self, request: HttpRequest, protocol: str, answer: _Answer, started: float, read: float
    ) -> None:
        ended = time.perf_counter()
        timing = None if answer.inferred is None else answer.inferred.timing
        status = answer.response.status
        tenant = self._accounts.tenant(request.headers)
        self._accounts.record(
            Answered(protocol, tenant, answer.version, status, started, read, ended, timing)
        )
        if timing is not None:
            header = server_timing(timing, ended - started)
            answer.response.headers.append((b"server-timing", header))


def _parse_target(path: str) -> _Target | None:
    match = _TARGET.fullmatch(path)
    if match is None:
        return None
    version = match["version"]
    return _Target(match["verb"] or "", None if version is None else int(version), match["label"])
