"""The trace and the access-log line of each request, besides its metrics.

Made by deployments as the config says, called by endpoint and gateway around each request. There
is no reporter where neither is wanted, so that a request then costs one comparison.
"""

import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from serve.config.sections import Tracing
from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import ServeError
from serve.telemetry.access_log import AccessLog
from serve.telemetry.exchange import Exchange
from serve.telemetry.faults import Faults
from serve.telemetry.trace_context import CURRENT, Carrier
from serve.telemetry.tracing import Traced, Tracer
from serve.types import InferRequest, InferResponse

_TRACE_HEADERS = {b"traceparent": "traceparent", b"tracestate": "tracestate"}
_TRACERESPONSE = b"traceresponse"  # of W3C's Trace Context Level 2


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as its traces and its log file name it, and the folder for its logs."""

    application: str
    replica_id: str
    log_folder: Path


class Reporter:
    """Traces and logs the requests of one replica; at least one of its two parts is there."""

    def __init__(
        self, tracing: Tracing, tracer: Tracer | None, access_log: AccessLog | None
    ) -> None:
        self.tracing = tracing
        self.tracer = tracer
        self.access_log = access_log
        self.faults = Faults("report", "tracing a pipeline's call")

    def begin(self, request: HttpRequest, started: float) -> Traced | None:
        """Begin a request's trace; its headers and all calls made for it carry the trace on.

        Returns None without a tracer.
        """
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

    def end(self, traced: Traced | None, exchange: Exchange, *, line: bool = True) -> None:
        """End a request's trace, name the trace in the response's headers, and log the request.

        `line` False writes no line: the model's own replica has written one.
        """
        CURRENT.set(None)
        trace_id = None
        if self.tracer is not None and traced is not None and traced.span is not None:
            trace_id = traced.trace_id
            if exchange.response is not None:
                _name_trace(exchange.response, traced)
            self.tracer.finish(traced, exchange)
        if line and self.access_log is not None:
            self.access_log.put(exchange, trace_id)

    async def infer(
        self,
        infer: Callable[[InferRequest], Awaitable[InferResponse]],
        request: InferRequest,
        model: str,
    ) -> InferResponse:
        """Run a pipeline's call of this model within the pipeline's trace; no line is logged."""
        if self.tracer is None or request.trace is None:
            return await infer(request)
        call = Exchange(model=model, protocol="pipeline", started=perf_counter())
        traced = None
        with self.faults.noted():  # what fails here leaves the call alone
            traced = self._begin(self.tracer, request.trace, call.started)
        try:
            response = await infer(request)
            call.version, call.inferred = str(response.version), response
        except ServeError as err:
            call.status, call.failure = err.http_status, str(err)
            raise
        finally:
            CURRENT.set(None)
            call.ended = perf_counter()
            if traced is not None:
                with self.faults.noted():
                    self.tracer.finish(traced, call)
        return response

    def close(self) -> None:
        """Send and write what is left; blocks."""
        for part in (self.tracer, self.access_log):
            if part is not None:
                part.close()


def reporter_for(
    user_config: Mapping[str, Any], replica: Replica, before: Reporter | None
) -> Reporter | None:
    """Return a replica's reporter for its `tracing` and `access_log` settings, None for neither.

    What has not changed is taken over from `before`, the reporter so far; what is no longer wanted
    is closed in a thread.
    """
    tracing = Tracing.model_validate(user_config.get("tracing") or {})
    tracer = None if before is None or before.tracing != tracing else before.tracer
    access_log = None if before is None else before.access_log
    if not user_config.get("access_log"):
        access_log = None
    elif access_log is None:
        name = f"access_{replica.application}_{replica.replica_id}.log"
        access_log = AccessLog(replica.log_folder / name)
    if tracing.endpoint is not None and tracer is None:
        try:
            tracer = Tracer(tracing, replica.application, replica.replica_id)
        except BaseException:  # it is tried again, with another log
            if access_log is not None and (before is None or access_log is not before.access_log):
                access_log.close()
            raise
    if before is not None:
        _close_unused(before, tracer, access_log)
    if tracer is None and access_log is None:
        return None
    return Reporter(tracing, tracer, access_log)


def _close_unused(before: Reporter, tracer: Tracer | None, access_log: AccessLog | None) -> None:
    for old, new in ((before.tracer, tracer), (before.access_log, access_log)):
        if old is not None and old is not new:
            threading.Thread(target=old.close, daemon=True).start()


def _name_trace(response: HttpResponse, traced: Traced) -> None:
    """Tell the client its trace; a model's replica has done so before the gateway does."""
    others = [header for header in response.headers if header[0] != _TRACERESPONSE]
    response.headers[:] = [*others, (_TRACERESPONSE, traced.carrier["traceparent"].encode())]
