"""Model: where the time of one model's requests goes, and what its replicas do."""

from typing import Any

from dashboards.edge import edge_of_model
from dashboards.model_replicas import RUNNING, TARGET, batches, drift, replicas
from dashboards.panels import (
    Query,
    Row,
    Section,
    bars,
    board,
    chart,
    number,
    query_variable,
    runbook,
    to_dashboard,
)
from dashboards.promql import (
    everything,
    increase,
    of_model,
    of_version,
    or_zero,
    quantile,
    rate,
    share,
)

_M, _V = of_model(), of_version()
_LATENCY = "ray_model_request_duration_seconds"
_REQUESTS = rate("ray_model_requests_total", _V)
_PARTS = "ray_model_request_part_seconds_total"
_WARM = [(None, "green"), (1, "orange")]
_DRIFTS = [(None, "green"), (0.1, "orange"), (0.25, "red")]


def model() -> dict[str, Any]:
    names = query_variable(
        "model", f"label_values(ray_model_ready{everything()}, model)", several=False
    )
    versions = query_variable(
        "version", f"label_values(ray_model_ready{_M}, version)", several=True
    )
    return board(
        "model",
        "One model: where its requests' time goes, batches, versions, scaling, the edge, drift.",
        [names, versions],
        [
            Section("Now", _now()),
            Section("Where a request's time goes", _time()),
            Section("Batches and versions", batches()),
            Section("Replicas", replicas()),
            Section("At the edge", edge_of_model()),
            Section("Drift", drift()),
        ],
    )


def _now() -> list[Row]:
    return [
        Row(
            4,
            [
                number(
                    "Requests",
                    "reqps",
                    to_dashboard("overview"),
                    "Requests of the chosen versions answered a second.",
                    Query(or_zero(_REQUESTS)),
                ),
                number(
                    "Latency",
                    "s",
                    runbook("ModelLatencyBudgetBurn"),
                    "Half of the requests, and 99 of 100, are answered within this time.",
                    Query(or_zero(quantile(0.5, _LATENCY, _V)), "p50"),
                    Query(or_zero(quantile(0.99, _LATENCY, _V)), "p99"),
                ),
                number(
                    "Errors",
                    "percentunit",
                    runbook("ModelErrorBudgetBurn"),
                    "Part of the requests answered with 5xx or 429 over 5 minutes.",
                    Query(or_zero(f"max(model:request_errors:ratio_rate5m{_M})")),
                    steps=[(None, "green"), (0.001, "orange"), (0.01, "red")],
                ),
                number(
                    "Replicas",
                    "short",
                    runbook("ModelReplicasAtMaximum"),
                    "Replicas that run, and what the autoscaler moves to.",
                    Query(RUNNING, "running"),
                    Query(TARGET, "target"),
                ),
            ],
        ),
        Row(
            4,
            [
                number(
                    "Requests inside",
                    "short",
                    runbook("ModelQueueSaturated"),
                    "Requests in all replicas now, and those that wait for the engine.",
                    Query(f"sum(ray_model_requests_in_flight{_M})", "in flight"),
                    Query(f"sum(ray_model_requests_queued{_V})", "queued"),
                ),
                number(
                    "Cold starts",
                    "short",
                    runbook("ModelColdStarts"),
                    "Loads of a version in a replica, in the time that is shown.",
                    Query(
                        or_zero(increase("ray_model_loads_total", of_version('outcome="ok"'))),
                        "loaded",
                    ),
                    Query(
                        or_zero(increase("ray_model_loads_total", of_version('outcome="failed"'))),
                        "failed",
                    ),
                ),
                number(
                    "Retraces",
                    "short",
                    runbook("ModelRetraces"),
                    "Traces of the model's functions since warm-up; anything above 0 costs"
                    " latency.",
                    Query(f"max(ray_model_retraces{_V})"),
                    steps=_WARM,
                ),
                number(
                    "Drift",
                    "short",
                    runbook("ModelDrift"),
                    "The largest population stability index of all tensors: above 0.1 the data"
                    " changes, above 0.25 it is other data. 0 without a baseline.",
                    Query(or_zero(f"max(ray_model_drift_score{_V})")),
                    steps=_DRIFTS,
                ),
            ],
        ),
    ]


def _time() -> list[Row]:
    queued = f"max by (namespace, replica) (ray_model_requests_queued{_V})"
    limit = f"max by (namespace, replica) (ray_model_queue_limit{_M})"
    # Only answered requests have parts.
    answered = rate("ray_model_requests_total", of_version('code="200"'))
    a_request = f"on() group_left() ({answered} > 0)"
    return [
        Row(
            8,
            [
                chart(
                    "Time of a request by part",
                    "s",
                    runbook("ModelLatencyBudgetBurn"),
                    "Mean seconds of a request, stacked: read and decode its body, queue behind"
                    " a busy engine, wait for others of its batch, compute, encode the answer.",
                    Query(f"{rate(_PARTS, _V, 'part')} / {a_request}", "{{part}}"),
                    look="stacked",
                ),
                chart(
                    "Latency",
                    "s",
                    runbook("ModelLatencyBudgetBurn"),
                    "From a request's arrival in the replica to its answer.",
                    *(
                        Query(quantile(q, _LATENCY, _V), f"p{round(q * 100)}")
                        for q in (0.5, 0.95, 0.99)
                    ),
                ),
            ],
        ),
        Row(
            7,
            [
                bars(
                    "Share of the time",
                    "percentunit",
                    runbook("ModelLatencyBudgetBurn"),
                    "The parts' shares of all the time of requests, in the time that is shown.",
                    Query(
                        share(_PARTS, _V, "part"),
                        "{{part}}",
                    ),
                ),
                chart(
                    "Waits and the engine, p95",
                    "s",
                    runbook("ModelQueueSaturated"),
                    "Of each batch: how long its oldest request queued behind a busy engine,"
                    " waited for others while the engine was free, and the engine's call.",
                    Query(quantile(0.95, "ray_model_queue_duration_seconds", _V), "queue"),
                    Query(
                        quantile(0.95, "ray_model_batch_wait_duration_seconds", _V), "batch wait"
                    ),
                    Query(quantile(0.95, "ray_model_engine_duration_seconds", _V), "engine"),
                ),
                chart(
                    "Fullest queue",
                    "percentunit",
                    runbook("ModelQueueSaturated"),
                    "Requests that wait for the engine, as part of those that may wait in a"
                    " replica, in the replica where it is worst. At 100 % requests get 429.",
                    Query(
                        or_zero(f"max({queued} / on (namespace, replica) ({limit} > 0))"), "full"
                    ),
                ),
                chart(
                    "Refused",
                    "reqps",
                    runbook("ModelQueueSaturated"),
                    "Requests told 429 a second, by reason and priority: the queue is full, or the"
                    " replica is overloaded and would have them wait for long.",
                    Query(
                        rate("ray_model_refusals_total", _V, "reason, priority"),
                        "{{reason}}, {{priority}}",
                    ),
                ),
            ],
        ),
    ]
