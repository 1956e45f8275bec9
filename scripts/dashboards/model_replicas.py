"""The rows of the dashboard "model" for its replicas: batches, versions, scaling, drift."""

from dashboards.panels import Column, Query, Row, bars, chart, listing, runbook, to_dashboard
from dashboards.promql import (
    everything,
    of_application,
    of_model,
    of_version,
    or_zero,
    quantile,
    rate,
)

_M, _V = of_model(), of_version()
_LATENCY = "ray_model_request_duration_seconds"
RUNNING = f"sum(model:replicas:count{_M})"
# A fixed number of replicas has no target.
TARGET = f"max(model:replicas_target:max{_M}) or on() {RUNNING}"
_WANTED = f"max(ray_serve_autoscaling_desired_replicas{of_application()})"


def batches() -> list[Row]:
    padding = rate("ray_model_padding_rows_total", _V)
    real = rate("ray_model_rows_total", _V)
    versions = "version"
    return [
        Row(
            7,
            [
                chart(
                    "Rows of an engine call",
                    "short",
                    to_dashboard("cost"),
                    "Rows that requests brought to one call of the engine. Larger batches cost"
                    " less a row.",
                    Query(quantile(0.5, "ray_model_batch_rows", _V), "p50"),
                    Query(quantile(0.95, "ray_model_batch_rows", _V), "p95"),
                ),
                chart(
                    "Padding waste",
                    "percentunit",
                    to_dashboard("cost"),
                    "Part of the computed rows that nobody asked for: a batch is padded to an"
                    " allowed size.",
                    Query(or_zero(f"{padding} / ({padding} + {real} > 0)"), "padding"),
                ),
                chart(
                    "Rows",
                    "rowsps",
                    to_dashboard("cost"),
                    "Rows computed a second for requests, and only to fill batches up.",
                    Query(rate("ray_model_rows_total", _V), "of requests"),
                    Query(or_zero(padding), "padding"),
                ),
            ],
        ),
        Row(
            7,
            [
                listing(
                    "Versions side by side",
                    runbook("ModelRetraces"),
                    "Each version of the model as it answers now; 1 is ready.",
                    ["version"],
                    Column("ready", f"max by (version) (ray_model_ready{_V})"),
                    Column("requests", rate("ray_model_requests_total", _V, versions), "reqps"),
                    Column("p50", quantile(0.5, _LATENCY, _V, versions), "s"),
                    Column("p99", quantile(0.99, _LATENCY, _V, versions), "s"),
                    Column("retraces", f"max by (version) (ray_model_retraces{_V})"),
                ),
                chart(
                    "Requests by version",
                    "reqps",
                    to_dashboard("overview"),
                    "Requests answered a second by each version.",
                    Query(rate("ray_model_requests_total", _V, versions), "version {{version}}"),
                ),
            ],
        ),
    ]


def replicas() -> list[Row]:
    pending = f"sum(ray_cluster_pending_nodes{everything()})"
    return [
        Row(
            8,
            [
                chart(
                    "Autoscaler",
                    "short",
                    runbook("ModelReplicasAtMaximum"),
                    "Replicas that the policy wants before bounds (for a fixed number, that"
                    " number), the target within bounds, those that run, the most that are"
                    " allowed, and pods that Ray waits for.",
                    Query(f"{_WANTED} or on() {TARGET}", "wanted"),
                    Query(TARGET, "target"),
                    Query(RUNNING, "running"),
                    Query(f"max(ray_model_max_replicas{_M})", "at most"),
                    Query(or_zero(pending), "pods pending"),
                ),
                chart(
                    "Cold starts",
                    "short",
                    runbook("ModelColdStarts"),
                    "Loads of a version in a replica, in the last 5 minutes, by outcome.",
                    Query(
                        or_zero(
                            f"sum by (outcome) (increase(ray_model_loads_total{_V}[5m]))",
                            "outcome",
                            "ok",
                        ),
                        "{{outcome}}",
                    ),
                ),
                bars(
                    "Seconds of a load",
                    "s",
                    runbook("ModelColdStarts"),
                    "Fetch, load and warm-up of a version, p95 of all that the replicas did.",
                    Query(
                        "histogram_quantile(0.95, sum by (le, version)"
                        f" (ray_model_load_duration_seconds_bucket{_V}))",
                        "version {{version}}",
                    ),
                ),
            ],
        ),
    ]


def drift() -> list[Row]:
    score = f"max by (tensor) (ray_model_drift_score{_V})"
    return [
        Row(
            7,
            [
                chart(
                    "Drift by tensor",
                    "short",
                    runbook("ModelDrift"),
                    "Population stability index against the version's baseline: above 0.1 the"
                    " data changes, above 0.25 it is other data. 0 without a baseline.",
                    Query(or_zero(score, "tensor", "no baseline"), "{{tensor}}"),
                ),
                chart(
                    "Rows looked at",
                    "rowsps",
                    runbook("ModelDrift"),
                    "Rows a second that the drift score is made of. 0 without a baseline.",
                    Query(or_zero(rate("ray_model_drift_rows_total", _V)), "rows"),
                ),
                chart(
                    "Reconstruction error",
                    "short",
                    runbook("ModelDrift"),
                    "How badly the autoencoder that watches the inputs redraws them, of late."
                    " 0 where none is given.",
                    Query(or_zero(f"max(ray_model_reconstruction_error{_V})"), "error"),
                ),
            ],
        ),
    ]
