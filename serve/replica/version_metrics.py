"""The metrics of a model's versions: their batches, and what is sampled once a second.

Called by model. What concerns a request, its tenant and its status is in telemetry.request_metrics.
"""

from collections.abc import Mapping
from typing import get_args

from serve.batching.admission import REASONS
from serve.batching.execution import BatchRun
from serve.drift.monitor import Monitor
from serve.engines.engine import Engine, EngineName, LayerMetrics
from serve.telemetry.metrics_recorder import Recorder
from serve.types import NO_TENANT, PRIORITIES, Priority, Timing


def begin(recorder: Recorder, version: str) -> None:
    """Begin a version's counters at 0, so that their first increase is seen."""
    for outcome in ("ok", "failed"):
        recorder.sum("model_loads", version=version, outcome=outcome)
    for reason in REASONS:
        for priority in PRIORITIES:
            recorder.sum("model_refusals", version=version, reason=reason, priority=priority)
    recorder.sum("model_rows", version=version)
    recorder.sum("model_padding_rows", version=version)
    recorder.sum("model_compute_seconds", version=version, tenant=NO_TENANT)


def observe(recorder: Recorder, version: str, run: BatchRun, oldest: Timing) -> None:
    """Record one engine call, and how long its oldest request waited for it."""
    recorder.observe("model_queue_duration_seconds", oldest.queue_s, version=version)
    recorder.observe("model_batch_wait_duration_seconds", oldest.batch_wait_s, version=version)
    recorder.observe("model_engine_duration_seconds", run.engine_s, version=version)
    recorder.observe("model_batch_rows", run.rows, version=version)
    recorder.count("model_rows", run.rows, version=version)
    for layer in run.layers:
        recorder.observe(
            "pipeline_layer_duration_seconds", layer.seconds, version=version, layer=layer.label
        )
    for tenant, seconds in run.tenants.items():
        recorder.count("model_compute_seconds", seconds, version=version, tenant=tenant)
    if run.padded_rows > run.rows:
        recorder.count("model_padding_rows", run.padded_rows - run.rows, version=version)


def count_refused(
    recorder: Recorder, version: str, refused: Mapping[tuple[str, Priority], int]
) -> None:
    """Count requests that might not wait, by reason and priority."""
    for (reason, priority), requests in refused.items():
        recorder.count(
            "model_refusals", requests, version=version, reason=reason, priority=priority
        )


def sample(
    recorder: Recorder,
    version: str,
    queued: int,
    engine: Engine,
    monitor: Monitor | None,
    memory_bytes: int = 0,
) -> None:
    """Set a version's gauges; `queued` are requests, `memory_bytes` what loading it took."""
    for name in get_args(EngineName):  # all of them: another one may have computed it until now
        recorder.gauge("model_engine", int(name == engine.name), version=version, engine=name)
    recorder.gauge("model_memory_bytes", memory_bytes, version=version)
    recorder.gauge("model_ready", 1, version=version)
    recorder.gauge("model_requests_queued", queued, version=version)
    recorder.gauge("model_retraces", engine.retraces, version=version)
    _sample_layers(recorder, version, engine.layers)
    if monitor is not None:
        _sample_drift(recorder, version, monitor)


def end(recorder: Recorder, version: str) -> None:
    """Set an unloaded version's gauges to 0: Ray exports their last values for a while."""
    for name in ("model_ready", "model_requests_queued", "model_retraces", "model_memory_bytes"):
        recorder.gauge(name, 0, version=version)
    for engine in get_args(EngineName):
        recorder.gauge("model_engine", 0, version=version, engine=engine)


def _sample_layers(recorder: Recorder, version: str, layers: LayerMetrics) -> None:
    for (layer, outcome), rows in layers.take_rows().items():
        recorder.count("pipeline_layer_rows", rows, version=version, layer=layer, outcome=outcome)
    saved = layers.compute_saved()
    if saved is not None:
        recorder.gauge("pipeline_compute_saved_ratio", saved, version=version)


def _sample_drift(recorder: Recorder, version: str, monitor: Monitor) -> None:
    """Record the rows that were looked at, and the scores where there are enough of them."""
    recorder.count("model_drift_rows", monitor.take_rows(), version=version)
    for tensor, score in monitor.scores().items():
        recorder.gauge("model_drift_score", score, version=version, tensor=tensor)
    error = monitor.reconstruction_error()
    if error is not None:
        recorder.gauge("model_reconstruction_error", error, version=version)
