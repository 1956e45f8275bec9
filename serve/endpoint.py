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

from serve.config_sections import NO_TENANT
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
    read_request,
    send_response,
)
from serve.errors import InferenceFailed, InvalidRequest, ServeError
from serve.metrics import Recorder
from serve.model import Model
from serve.protocols import metadata_v2, rest_v1, rest_v2
from serve.protocols.errors import encode_error, encode_json
from serve.types import InferResponse, Timing

log = logging.getLogger("ray.serve")

_TARGET = re.compile(r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/]+))?(?P<verb>/.*)?")
_NO_VERSION = "none"


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


class ModelEndpoint:
    """Speaks V2 and V1 for one model."""

    def __init__(self, model: Model, max_body_bytes: int, recorder: Recorder) -> None:
        self._model = model
        self._max_body_bytes = max_body_bytes
        self._recorder = recorder
        self._prefix = len(f"/v2/models/{model.name}")
        self.in_flight = 0

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
            self._count("v2", _NO_VERSION, response.status)
        except Disconnected:
            return
        finally:
            self.in_flight -= 1
        await send_response(response, request, send)

    async def answer(self, request: HttpRequest, started: float | None = None) -> HttpResponse:
        """Answer a request whose path begins with this model's prefix."""
        started = started or time.perf_counter()
        path = request.path[self._prefix :]
        protocol = "v1" if path.startswith(("/v1/", "/v1:")) or path == "/v1" else "v2"
        try:
            route = self._v1 if protocol == "v1" else self._v2
            answer = await route(request, path)
        except ServeError as err:
            answer = _Answer(self._failed(err))
        seconds = time.perf_counter() - started
        self._record(protocol, answer, seconds)
        return answer.response

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
            return _Answer(_method_not_allowed(method))
        return await handler(request, target)

    async def _infer_v2(self, request: HttpRequest, target: _Target) -> _Answer:
        if request.method != "POST":
            return _Answer(_method_not_allowed("POST"))
        json_length = _json_length(request)
        loaded = self._model.choose(target.version, target.label)
        decoded, output_format = rest_v2.decode_request(
            request.body, json_length, loaded.signature(None) if json_length == 0 else None
        )
        decoded.version, decoded.label = target.version, target.label
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
        decoded, row_format = rest_v1.decode_predict(
            request.body, loaded.engine.signatures, loaded.engine.default_signature
        )
        decoded.version, decoded.label = target.version, target.label
        inferred = await self._model.infer(decoded, self._is_alone)
        signature = loaded.signature(inferred.signature)
        body = rest_v1.encode_predict(inferred, signature, row_format)
        return _Answer(HttpResponse(200, body), inferred)

    # ------------------------------------------------------------------ metrics

    def _record(self, protocol: str, answer: _Answer, seconds: float) -> None:
        inferred = answer.inferred
        version = _NO_VERSION if inferred is None else str(inferred.version)
        self._count(protocol, version, answer.response.status)
        if inferred is None:
            return
        timing = inferred.timing
        self._recorder.observe(
            "model_request_duration_seconds", seconds, version=version, protocol=protocol
        )
        answer.response.headers.append((b"server-timing", _server_timing(timing, seconds)))

    def _count(self, protocol: str, version: str, status: int) -> None:
        self._recorder.count(
            "model_requests",
            version=version,
            protocol=protocol,
            code=str(status),
            tenant=NO_TENANT,
        )


def _server_timing(timing: Timing, seconds: float) -> bytes:
    parts = [
        ("queue", timing.queue_s),
        ("batch", timing.batch_wait_s),
        ("engine", timing.engine_s),
        *((f"layer-{label}", layer_s) for label, layer_s in timing.layers),
        ("total", seconds),
    ]
    return ", ".join(f"{name};dur={part_s * 1e3:.3f}" for name, part_s in parts).encode()


def _parse_target(path: str) -> _Target | None:
    match = _TARGET.fullmatch(path)
    if match is None:
        return None
    version = match["version"]
    return _Target(match["verb"] or "", None if version is None else int(version), match["label"])


def _json_length(request: HttpRequest) -> int | None:
    text = request.headers.get(b"inference-header-content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise InvalidRequest(
            "the header Inference-Header-Content-Length must be a number of bytes, "
            f"not '{text.decode('latin-1')}'"
        )
    return int(text)


def _method_not_allowed(allowed: str) -> HttpResponse:
    headers = [JSON, (b"allow", allowed.encode())]
    return HttpResponse(405, encode_error("Method Not Allowed"), headers)
