"""What is told of each request besides metrics: its trace and its line in the access log.

Made by deployments as the config says, called by endpoint and gateway around each request. There
is no reporter where neither is wanted, so that a request then costs one comparison.
"""

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from serve.config.sections import Tracing
from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import ServeError
from serve.telemetry.access_log import AccessLog
from serve.telemetry.exchange import Exchange, exchange_of
from serve.telemetry.trace_context import CURRENT, Carrier
from serve.telemetry.tracing import Traced, Tracer
from serve.types import InferRequest, InferResponse

_TRACE_HEADERS = {b"traceparent": "traceparent", b"tracestate": "tracestate"}
_TRACERESPONSE = b"traceresponse"  # of W3C's Trace Context Level 2


@dataclass(frozen=True, slots=True)
class Replica:
    """Whose requests are told: the application, the replica's id, and where its logs go."""

    application: str
    replica_id: str
    log_folder: Path


class Reporter:
    """Tells of the requests of one replica; at least one of its parts is there."""

    def __init__(
        self, tracing: Tracing, tracer: Tracer | None, access_log: AccessLog | None
    ) -> None:
        self.tracing = tracing
        self.tracer = tracer
        self.access_log = access_log

    def begin(self, request: HttpRequest, started: float) -> Traced | None:
        """Begin a request's trace, which its headers and whatever it calls from now on carry."""
        if self.tracer is None:
            return None
        headers = request.headers
        carrier = {
            name: headers[key].decode("latin-1")
            for key, name in _TRACE_HEADERS.items()
            if key in headers
        }
        traced = self._begin(self.tracer, carrier, started)
        headers[b"traceparent"] = traced.carrier["traceparent"].encode()
        return traced

    def _begin(self, tracer: Tracer, carrier: Carrier, started: float) -> Traced:
        traced = tracer.start(carrier, started)
        CURRENT.set(traced.carrier)
        return traced

    def end(
        self,
        traced: Traced | None,
        exchange: Callable[[], Exchange],
        response: HttpResponse,
        line: bool = True,
    ) -> None:
        """Tell of an exchange, which is made only if there is somebody to be told.

        `line` False leaves the log's line to the model's own replica.
        """
        CURRENT.set(None)
        is_traced = traced is not None and traced.span is not None
        is_logged = line and self.access_log is not None
        if is_traced or is_logged:
            self._tell(traced if is_traced else None, exchange(), response, is_logged)

    def _tell(
        self, traced: Traced | None, exchange: Exchange, response: HttpResponse, is_logged: bool
    ) -> None:
        trace_id = None
        if traced is not None and self.tracer is not None:
            trace_id = traced.trace_id
            told = traced.carrier["traceparent"].encode()
            others = [header for header in response.headers if header[0] != _TRACERESPONSE]
            response.headers[:] = [*others, (_TRACERESPONSE, told)]
            self.tracer.finish(traced, exchange)
        if is_logged and self.access_log is not None:
            self.access_log.put(exchange, trace_id)

    def refused(
        self, request: HttpRequest, response: HttpResponse, model: str, started: float
    ) -> None:
        """Tell of a request whose body was not read."""
        traced = self.begin(request, started)
        whose = (model, None, "v2")
        self.end(traced, lambda: exchange_of(request, response, whose, started), response)

    async def infer(
        self,
        infer: Callable[[InferRequest], Awaitable[InferResponse]],
        request: InferRequest,
        model: str,
    ) -> InferResponse:
        """Answer a pipeline's call within the pipeline's trace; it is no line in the log."""
        if self.tracer is None or request.trace is None:
            return await infer(request)
        started = perf_counter()
        traced = self._begin(self.tracer, request.trace, started)
        call = Exchange(model, None, "pipeline", started, started, 200)
        try:
            response = await infer(request)
            call = replace(call, version=str(response.version), inferred=response)
        except ServeError as err:
            call = replace(call, status=err.http_status, error=str(err))
            raise
        finally:
            CURRENT.set(None)
            self.tracer.finish(traced, replace(call, ended=perf_counter()))
        return response

    def close(self) -> None:
        """Send and write what is left; blocks."""
        for part in (self.tracer, self.access_log):
            if part is not None:
                part.close()


def reporter_for(
    wanted: Mapping[str, Any], replica: Replica, before: Reporter | None
) -> Reporter | None:
    """Return what tells of requests as a user_config wants it, with what `before` has of it.

    None if nothing is to be told. What is no longer wanted is closed in a thread.
    """
    tracing = Tracing.model_validate(wanted.get("tracing") or {})
    tracer = None if before is None or before.tracing != tracing else before.tracer
    access_log = None if before is None else before.access_log
    if tracing.endpoint is not None and tracer is None:
        tracer = Tracer(tracing, replica.application, replica.replica_id)
    if not wanted.get("access_log"):
        access_log = None
    elif access_log is None:
        name = f"access_{replica.application}_{replica.replica_id}.log"
        access_log = AccessLog(replica.log_folder / name)
    for old, new in (
        (before and before.tracer, tracer),
        (before and before.access_log, access_log),
    ):
        if old is not None and old is not new:
            threading.Thread(target=old.close, daemon=True).start()
    if tracer is None and access_log is None:
        return None
    return Reporter(tracing, tracer, access_log)
