"""Every metric that Strata declares: one table, and how many time series it can become.

Recorded by metrics_recorder through Ray's exporter: Ray's agent on each node exports them for
Prometheus with the prefix `ray_` (counters also get `_total`) and adds the tags deployment, replica
and application.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from serve.config.sections import MAX_TENANTS
from serve.errors import Code
from serve.types import PRIORITIES

# Seconds; 0.5 ms to 30 s, close enough together that a quantile is off by a quarter at most.
LATENCY_BUCKETS_S = (
    0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
    0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0,
)  # fmt: skip
LOAD_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it counts, its tags besides Ray's own, its buckets if a histogram."""

    kind: str
    help: str
    tags: tuple[str, ...]
    buckets: tuple[float, ...] = ()


# The parts of an answered request's time; they add up to the whole.
PARTS = ("read", "decode", "queue", "batch_wait", "engine", "encode")
# What the gateway counts a request for when no model has the name that was asked for.
UNKNOWN_MODEL = "unknown"
PROTOCOLS = ("v2", "v1")
# Where an error that nobody foresaw was raised: answering a request, tracing, logging or counting
# it, around the engine, in a background task, while a change was taken.
PLACES = ("request", "report", "batch", "task", "change")
CODES = tuple(sorted({200, 405, 413} | {code.value for code in Code}))

# The most values that a tag has in one replica. None of them is a caller's to choose. Versions,
# layers and tensors are bounded by files and folders alone: what is here is plenty.
TAG_VALUES: Mapping[str, int] = {
    "model": 1,
    "version": 3,  # two side by side, and none where a request did not get as far as one
    "protocol": len(PROTOCOLS),
    "code": len(CODES),
    "tenant": MAX_TENANTS + 2,
    "part": len(PARTS),
    "place": len(PLACES),
    "slo": 2,
    "reason": 3,
    "priority": len(PRIORITIES),
    "outcome": 4,
    "state": 3,
    "layer": 6,
    "tensor": 8,
    "engine": 4,
}

METRICS: Mapping[str, Metric] = {
    "model_requests": Metric(
        "counter",
        "Requests answered, but for those above a quota, which model_quota_refusals has.",
        ("model", "version", "protocol", "code", "tenant"),
    ),
    "model_request_duration_seconds": Metric(
        "histogram",
        "Seconds from the request's arrival in the replica to its answer.",
        ("model", "version", "protocol"),
        LATENCY_BUCKETS_S,
    ),
    "model_request_part_seconds": Metric(
        "counter",
        "Seconds that answered requests spent in each part: read, decode, queue, batch_wait, "
        "engine, encode; the parts add up to the whole.",
        ("model", "version", "part"),
    ),
    "model_slow_requests": Metric(
        "counter", "Requests answered later than slo.latency_ms.", ("model", "version")
    ),
    "model_slo_objective_ratio": Metric(
        "gauge",
        "Share of requests that must be good, by slo: availability or latency.",
        ("model", "slo"),
    ),
    "model_queue_duration_seconds": Metric(
        "histogram",
        "Seconds the oldest request of a batch waited because the engine was busy.",
        ("model", "version"),
        LATENCY_BUCKETS_S,
    ),
    "model_batch_wait_duration_seconds": Metric(
        "histogram",
        "Seconds the oldest request of a batch waited for others while the engine was free.",
        ("model", "version"),
        LATENCY_BUCKETS_S,
    ),
    "model_engine_duration_seconds": Metric(
        "histogram", "Seconds of one engine call.", ("model", "version"), LATENCY_BUCKETS_S
    ),
    "model_compute_seconds": Metric(
        "counter",
        "Seconds of the engine, shared out over a batch's requests by rows.",
        ("model", "version", "tenant"),
    ),
    "model_batch_rows": Metric(
        "histogram", "Rows in one engine call, without padding.", ("model", "version"), ROW_BUCKETS
    ),
    "model_rows": Metric(
        "counter", "Rows that requests had computed, without padding.", ("model", "version")
    ),
    "model_padding_rows": Metric(
        "counter", "Rows computed only to reach an allowed batch size.", ("model", "version")
    ),
    "model_requests_in_flight": Metric(
        "gauge", "Requests in the replica, sampled every second.", ("model",)
    ),
    "model_requests_queued": Metric(
        "gauge", "Requests that wait for the engine, sampled every second.", ("model", "version")
    ),
    "model_queue_limit": Metric(
        "gauge", "Requests of a version that may wait in the replica before 429.", ("model",)
    ),
    "model_refusals": Metric(
        "counter",
        "Requests that might not wait for the engine, by reason (queue_full, overload) and "
        "priority.",
        ("model", "version", "reason", "priority"),
    ),
    "model_quota_refusals": Metric(
        "counter",
        "Requests refused for a quota that is kept in the replicas, by reason (rows_per_s, "
        "compute_s_per_day; uncounted: counts.when_uncounted has it so) and tenant.",
        ("model", "reason", "tenant"),
    ),
    "model_quota_uncounted": Metric(
        "counter",
        "Requests whose quota was not counted in Redis, which did not answer: let through by a "
        "part of the quota, or refused.",
        ("model",),
    ),
    "model_max_replicas": Metric(
        "gauge", "Replicas that the model's autoscaling allows at most.", ("model",)
    ),
    "model_reserved_cpus": Metric("gauge", "Cores that the replica reserves.", ("model",)),
    "model_reserved_gpus": Metric("gauge", "GPUs that the replica reserves.", ("model",)),
    "model_reserved_cost_per_hour": Metric(
        "gauge",
        "What the replica's reservation costs an hour, at the configured prices.",
        ("model",),
    ),
    "model_loads": Metric(
        "counter", "Loads of a version, by outcome: ok or failed.", ("model", "version", "outcome")
    ),
    "model_load_duration_seconds": Metric(
        "histogram",
        "Seconds to fetch, load and warm up a version.",
        ("model", "version"),
        LOAD_BUCKETS_S,
    ),
    "model_failed_versions": Metric(
        "gauge", "Versions that could not be loaded and have not changed since.", ("model",)
    ),
    "model_ready": Metric(
        "gauge",
        "1 while the version answers; 0, and then gone, once it is unloaded.",
        ("model", "version"),
    ),
    "pipeline_layer_rows": Metric(
        "counter",
        "Rows of a pipeline's layer, by outcome: answered, passed, abstained, degraded.",
        ("model", "version", "layer", "outcome"),
    ),
    "pipeline_layer_duration_seconds": Metric(
        "histogram",
        "Seconds of one call of a pipeline's layer.",
        ("model", "version", "layer"),
        LATENCY_BUCKETS_S,
    ),
    "pipeline_compute_saved_ratio": Metric(
        "gauge",
        "Part of the computation saved against the last layer alone, by measured seconds a row.",
        ("model", "version"),
    ),
    "model_engine": Metric(
        "gauge",
        "1 for the library that computes a loaded version, 0 for the others.",
        ("model", "version", "engine"),
    ),
    "model_memory_bytes": Metric(
        "gauge",
        "By how much the replica grew while it loaded a version; 0 once it is unloaded.",
        ("model", "version"),
    ),
    "model_retraces": Metric(
        "gauge",
        "Traces of the model's functions since warm-up; anything above 0 costs latency.",
        ("model", "version"),
    ),
    "model_drift_score": Metric(
        "gauge",
        "Population stability index of a tensor's values against the version's baseline.",
        ("model", "version", "tensor"),
    ),
    "model_drift_rows": Metric("counter", "Rows looked at for drift.", ("model", "version")),
    "model_reconstruction_error": Metric(
        "gauge",
        "Mean error of late with which an autoencoder redraws the inputs.",
        ("model", "version"),
    ),
    "pool_memory_bytes": Metric(
        "gauge", "Memory of a pool's replica; model is the pool's application.", ("model",)
    ),
    "pool_memory_limit_bytes": Metric(
        "gauge",
        "Memory of a pool's replica above which models are unloaded, where there is a bound; model "
        "is the pool's application.",
        ("model",),
    ),
    "pool_models": Metric(
        "gauge",
        "Models of a pool's replica, by state: loaded, resting (until a request brings them back), "
        "failed; model is the pool's application.",
        ("model", "state"),
    ),
    "pool_unloads": Metric(
        "counter",
        "Models that a pool's replica unloaded to make room; model is the pool's application.",
        ("model",),
    ),
    "internal_errors": Metric(
        "counter",
        "Errors that nobody foresaw, by place: request, report, batch, task or change; model is "
        "gateway for the gateway's own.",
        ("model", "place"),
    ),
    "gateway_requests": Metric(
        "counter",
        "Requests that no replica of a model answered; model is unknown where there is none.",
        ("model", "protocol", "code"),
    ),
}


def exported_names(name: str) -> tuple[str, ...]:
    """Return the names by which Prometheus finds a metric of the table; a histogram has two."""
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count")}
    return tuple(f"ray_{name}{suffix}" for suffix in suffixes[METRICS[name].kind])


def series(metric: Metric, values: Mapping[str, int] = TAG_VALUES) -> int:
    """Return the most time series that a metric makes in one replica."""
    # A histogram exports each bucket, +Inf, _sum and _count.
    each = len(metric.buckets) + 3 if metric.kind == "histogram" else 1
    return math.prod((each, *(values[tag] for tag in metric.tags)))
