"""Traces by OpenTelemetry: the spans of a request, made from its timing once it has its response.

Built by request_reporter, where a trace is wanted. Ray Serve has spans of its own, which are not
used (docs/decisions/0004-tracing.md). While a request is handled only its own span is there, to be
named to members and to the client; everything below it is made afterwards.
"""

import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve import __version__
from serve.config.sections import Tracing
from serve.edge.routes import parse_path
from serve.telemetry.exchange import Exchange
from serve.telemetry.metrics import UNKNOWN_MODEL
from serve.telemetry.trace_context import Carrier
from serve.types import Timing

log = logging.getLogger("ray.serve")

_SEND_PERIOD_MS = 1_000  # what a replica that is killed may lose
_SEND_TIMEOUT_S = 5.0
_QUEUED_SPANS = 8_192
_CLOSE_TIMEOUT_S = 5.0
_W3C = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class Traced:
    """A request that is being handled: its span, and the carrier that others continue it by.

    One that is not recorded has no span, and others are told so.
    """

    carrier: Carrier
    span: Span | None = None
    epoch_ns: int = 0  # of perf_counter's zero

    @property
    def trace_id(self) -> str:
        return self.carrier["traceparent"].split("-")[1]

    def at(self, seconds: float) -> int:
        """Return a time of perf_counter as OpenTelemetry has it."""
        return self.epoch_ns + int(seconds * 1e9)


class Tracer:
    """The spans of one replica; its methods belong to one event loop, but for `close`."""

    def __init__(
        self, config: Tracing, service: str, instance: str, processor: SpanProcessor | None = None
    ) -> None:
        self._ids = _Ids()
        names = {
            "service.namespace": "strata",
            "service.name": service,
            "service.instance.id": instance,
            "service.version": __version__,
        }
        self._ratio = config.sampling_ratio
        self._provider = TracerProvider(
            resource=Resource.create(names),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor or _sender(str(config.endpoint)))
        self._tracer = self._provider.get_tracer("strata", __version__)

    def start(self, carrier: Carrier, started: float) -> Traced:
        """Begin a request's trace, below its caller's if the carrier names one.

        Most requests are not recorded: they cost some random bits here and no span.
        """
        above = _W3C.extract(carrier) if carrier else Context()
        caller = get_current_span(above).get_span_context()
        if caller.is_valid and not caller.trace_flags.sampled:
            # Written anew: what a caller of a later version of the standard sent has other parts.
            passed: dict[str, str] = {}
            _W3C.inject(passed, above)
            return Traced(passed)
        if not caller.is_valid and random.random() >= self._ratio:
            trace_id, span_id = self._ids.generate_trace_id(), self._ids.generate_span_id()
            return Traced({"traceparent": f"00-{trace_id:032x}-{span_id:016x}-00"})
        epoch_ns = time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            "request",
            above,
            SpanKind.SERVER,
            start_time=epoch_ns + int(started * 1e9),
        )
        given: dict[str, str] = {}
        _W3C.inject(given, set_span_in_context(span, Context()))
        return Traced(given, span, epoch_ns)

    def finish(self, traced: Traced, exchange: Exchange) -> None:
        """End a request's span, if it has one, and make those below it."""
        span = traced.span
        if span is None:
            return
        span.set_attributes(_attributes(exchange))
        _name(span, exchange)
        if exchange.status >= 500:  # by the conventions a 4xx is no error of the server
            span.set_attribute("error.type", str(exchange.status))
            span.set_status(Status(StatusCode.ERROR, exchange.error))
        if exchange.inferred is not None:
            self._parts(traced, set_span_in_context(span, Context()), exchange)
        span.end(traced.at(exchange.ended))

    def _parts(self, traced: Traced, request: Context, exchange: Exchange) -> None:
        timing = Timing() if exchange.inferred is None else exchange.inferred.timing
        end = timing.arrived
        self._part(traced, "decode", request, (exchange.started, end))
        for piece in timing.pieces or (timing,):
            waited = piece.queue_s + piece.batch_wait_s
            start = piece.arrived + waited
            end = start + piece.engine_s
            waits = {"strata.queue_s": piece.queue_s, "strata.batch_wait_s": piece.batch_wait_s}
            self._part(traced, "batch", request, (piece.arrived, start), waits)
            rows = {"strata.batch_rows": piece.batch_rows}
            engine = self._part(traced, "engine", request, (start, end), rows)
            below = set_span_in_context(engine, Context())
            for layer in piece.layers:
                self._ids.given = layer.span_id
                times = (layer.started, layer.started + layer.seconds)
                label = {"strata.layer": layer.label}
                self._part(traced, f"layer {layer.label}", below, times, label)
        self._part(traced, "encode", request, (end, exchange.ended))

    def _part(
        self,
        traced: Traced,
        name: str,
        above: Context,
        times: tuple[float, float],
        attributes: Mapping[str, float | str] | None = None,
    ) -> Span:
        start, end = times
        span = self._tracer.start_span(
            name, above, attributes=attributes, start_time=traced.at(start)
        )
        span.end(traced.at(end))
        return span

    def flush(self) -> None:
        """Send what is there; blocks."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what is left; blocks, a few seconds at most."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_CLOSE_TIMEOUT_S)


class _Ids(RandomIdGenerator):
    """Random ids, but for a span whose id somebody was told before it was made."""

    given: int | None = None

    def generate_span_id(self) -> int:
        given, self.given = self.given, None
        return super().generate_span_id() if given is None else given


def _name(span: Span, exchange: Exchange) -> None:
    if not exchange.method:
        span.update_name(f"infer {exchange.model}")
        return
    route = parse_path(exchange.path).route(is_served=exchange.model != UNKNOWN_MODEL)
    span.update_name(f"{exchange.method} {route}" if route else exchange.method)
    if route:
        span.set_attribute("http.route", route)


def _attributes(exchange: Exchange) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "strata.model": exchange.model,
        "strata.protocol": exchange.protocol,
    }
    if exchange.method:
        attributes["http.request.method"] = exchange.method
        attributes["http.response.status_code"] = exchange.status
        attributes["url.path"] = exchange.path
        attributes["url.scheme"] = "http"
        if exchange.request_id is not None:
            attributes["http.request.header.x-request-id"] = exchange.request_id
    if exchange.version is not None:
        attributes["strata.version"] = exchange.version
    if exchange.inferred is not None:
        attributes["strata.rows"] = exchange.inferred.timing.rows
    error = exchange.error
    if error is not None:
        attributes["strata.error"] = error
    return attributes


def _sender(endpoint: str) -> SpanProcessor:
    """Return what sends spans in a thread of its own."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    # What these say of every try to reach a collector that is away, `_Sending` says once.
    for name in ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return BatchSpanProcessor(
        _Sending(OTLPSpanExporter(endpoint=endpoint, timeout=_SEND_TIMEOUT_S), endpoint),
        max_queue_size=_QUEUED_SPANS,
        schedule_delay_millis=_SEND_PERIOD_MS,
    )


class _Sending(SpanExporter):
    """Says once that spans cannot be sent, and once that they can be again."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        is_away = result is not SpanExportResult.SUCCESS
        if is_away and not self._is_away:
            log.warning(
                "tracing.endpoint: %s does not take spans; they are lost until it does, requests "
                "are answered all the same",
                self._endpoint,
            )
        elif self._is_away and not is_away:
            log.info("tracing.endpoint: %s takes spans again", self._endpoint)
        self._is_away = is_away
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
