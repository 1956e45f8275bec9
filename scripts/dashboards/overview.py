"""Overview: is anything wrong, with which model, and since when."""

from typing import Any

from dashboards.panels import (
    Column,
    Query,
    Row,
    Section,
    board,
    chart,
    listing,
    number,
    query_variable,
    runbook,
    to_dashboard,
)
from dashboards.promql import everything, of_model, or_zero, rate, replicas

_M = of_model()
_REQUESTS = f"model:requests:rate5m{_M}"
_ERRORS = f"model:request_errors:ratio_rate5m{_M}"
_WEIGHTED = f"sum({_ERRORS} * on (namespace, model) {_REQUESTS}) / (sum({_REQUESTS}) > 0)"
_BAD = [(None, "green"), (0.001, "orange"), (0.01, "red")]
_LEFT = [(None, "red"), (0.0, "orange"), (0.25, "green")]


def overview() -> dict[str, Any]:
    models = query_variable(
        "model", f"label_values(ray_model_ready{everything()}, model)", several=True
    )
    return board(
        "overview",
        "All models: traffic, errors, latency, error budgets, and what is wrong now.",
        [models],
        [Section("Now", _now()), Section("By model", _by_model()), Section("SLO", _slo())],
    )


def _now() -> list[Row]:
    firing = 'ALERTS{alertstate="firing", namespace=~"$namespace"}'
    nothing = 'label_replace(vector(0), "alertname", "nothing is wrong", "", "")'
    return [
        Row(
            4,
            [
                number(
                    "Alerts firing",
                    "short",
                    runbook("ModelErrorBudgetBurn"),
                    "Alerts that fire now, of every severity. 0 is as it should be.",
                    Query(or_zero(f"count({firing})")),
                    steps=[(None, "green"), (1, "red")],
                ),
                number(
                    "Requests",
                    "reqps",
                    to_dashboard("model"),
                    "Requests answered a second, all chosen models together, over 5 minutes.",
                    Query(or_zero(f"sum({_REQUESTS})")),
                ),
                number(
                    "Errors",
                    "percentunit",
                    runbook("ModelErrorBudgetBurn"),
                    "Part of the requests answered with 5xx or 429 over 5 minutes.",
                    Query(or_zero(_WEIGHTED)),
                    steps=_BAD,
                ),
                number(
                    "Slowest model's p99",
                    "s",
                    runbook("ModelLatencyBudgetBurn"),
                    "99 of 100 requests are answered within this time, by the slowest model.",
                    Query(
                        or_zero(f"max(model:request_duration_seconds:p99_rate5m{_M} >= 0)"),
                    ),
                ),
            ],
        ),
        Row(
            4,
            [
                number(
                    "Least error budget left",
                    "percentunit",
                    runbook("ModelErrorBudgetBurnSlow"),
                    "Of what the SLO allows over 3 days, the part that the worst model has not"
                    " used. Below 0 the SLO is missed. Without any SLO nothing is used.",
                    Query(f"min(model:error_budget_remaining:ratio_3d{_M}) or on() vector(1)"),
                    steps=_LEFT,
                ),
                number(
                    "Models ready",
                    "short",
                    runbook("ModelLoadFailed"),
                    "Models with a replica that answers, and versions that cannot be loaded.",
                    Query(
                        f"count(count by (namespace, model) (ray_model_ready{_M} == 1))", "ready"
                    ),
                    Query(
                        f"sum(max by (namespace, model) (ray_model_failed_versions{_M}))",
                        "versions failed",
                    ),
                ),
                number(
                    "Replicas",
                    "short",
                    to_dashboard("cluster"),
                    "Processes that hold the chosen models.",
                    Query(replicas(_M)),
                ),
                number(
                    "GPUs",
                    "short",
                    to_dashboard("cluster"),
                    "GPUs that replicas of the chosen models reserve, and those that there are.",
                    Query(f"sum(ray_model_reserved_gpus{_M})", "reserved"),
                    Query(or_zero(f"sum(ray_node_gpus_available{everything()})"), "there"),
                ),
            ],
        ),
        Row(
            6,
            [
                listing(
                    "What is wrong now",
                    runbook("ModelNotReady"),
                    "Alerts that fire; the runbook has a heading for each.",
                    ["severity", "alertname", "model"],
                    Column("", f"max by (severity, alertname, model) ({firing}) or on() {nothing}"),
                ),
                chart(
                    "Replicas by model",
                    "short",
                    runbook("ModelReplicasAtMaximum"),
                    "Processes that hold a model. Scaling moves them; the model's dashboard"
                    " shows what the autoscaler wants.",
                    Query(f"sum by (model) (model:replicas:count{_M})", "{{model}}"),
                ),
            ],
        ),
    ]


def _by_model() -> list[Row]:
    latency = "model:request_duration_seconds"
    return [
        Row(
            8,
            [
                chart(
                    "Traffic",
                    "reqps",
                    to_dashboard("model"),
                    "Requests answered a second, over 5 minutes. A line leads to its model.",
                    Query(f"sum by (model) ({_REQUESTS})", "{{model}}"),
                ),
                chart(
                    "Errors",
                    "percentunit",
                    runbook("ModelErrorBudgetBurn"),
                    "Part of the requests answered with 5xx or 429, over 5 minutes.",
                    Query(f"max by (model) ({_ERRORS})", "{{model}}"),
                ),
                chart(
                    "Latency, p99",
                    "s",
                    runbook("ModelLatencyBudgetBurn"),
                    "99 of 100 requests are answered within this time, over 5 minutes.",
                    Query(
                        f"max by (model) ({latency}:p99_rate5m{_M})",
                        "{{model}}",
                    ),
                ),
            ],
        ),
        Row(
            7,
            [
                chart(
                    "Answers by code",
                    "reqps",
                    runbook("ModelErrorBudgetBurn"),
                    "Answers a second by HTTP status: of the models, of the gateway where it"
                    " answers by itself, unknown models above all, and 5xx of the edge that no"
                    " replica counted.",
                    Query(rate("ray_model_requests_total", _M, "code"), "{{code}}"),
                    Query(
                        or_zero(
                            rate("ray_gateway_requests_total", everything(), "code"), "code", "none"
                        ),
                        "gateway {{code}}",
                    ),
                    Query(or_zero(f"sum(model:lost_requests:rate5m{_M})"), "edge 5xx"),
                ),
                chart(
                    "Requests by protocol",
                    "reqps",
                    to_dashboard("model"),
                    "Requests a second by the protocol that the client speaks.",
                    Query(rate("ray_model_requests_total", _M, "protocol"), "{{protocol}}"),
                ),
                listing(
                    "Latency",
                    to_dashboard("model"),
                    "Half of the requests, 95 and 99 of 100 are answered within this time.",
                    ["model"],
                    *(
                        Column(q, f"max by (model) ({latency}:{q}_rate5m{_M})", "s")
                        for q in ("p50", "p95", "p99")
                    ),
                ),
            ],
        ),
    ]


def _slo() -> list[Row]:
    objective = f"ray_model_slo_objective_ratio{_M}"
    availability = of_model('slo="availability"')
    latency = of_model('slo="latency"')
    return [
        Row(
            8,
            [
                listing(
                    "Objectives",
                    runbook("ModelErrorBudgetBurnSlow"),
                    "What each model's `slo:` promises, and how much of its error budget is"
                    " left over 3 days.",
                    ["model", "slo"],
                    Column("objective", f"max by (model, slo) ({objective} > 0)", "percentunit"),
                    Column(
                        "budget left",
                        f"min by (model, slo) (model:error_budget_remaining:ratio_3d{_M})",
                        "percentunit",
                    ),
                ),
                chart(
                    "Error budget left",
                    "percentunit",
                    runbook("ModelErrorBudgetBurnSlow"),
                    "The part of the budget of 3 days that is not used. It falls while"
                    " requests fail or are slow, and comes back as they grow old.",
                    Query(
                        f"min by (model) (model:error_budget_remaining:ratio_3d{availability})",
                        "{{model}} availability",
                    ),
                    Query(
                        f"min by (model) (model:error_budget_remaining:ratio_3d{latency})",
                        "{{model}} latency",
                    ),
                    look="signed",
                ),
                chart(
                    "Slow requests",
                    "percentunit",
                    runbook("ModelLatencyBudgetBurn"),
                    "Part of the answered requests that took longer than `slo.latency_ms`.",
                    Query(
                        f"max by (model) (model:slow_requests:ratio_rate5m{_M})", "{{model}} 5 min"
                    ),
                    Query(
                        f"max by (model) (model:slow_requests:ratio_rate1h{_M})", "{{model}} 1 h"
                    ),
                ),
            ],
        ),
    ]
