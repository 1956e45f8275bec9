"""Cost: what models, engines and tenants use and what that costs, and how much of it is idle."""

from typing import Any

from dashboards.panels import (
    MONEY,
    Column,
    Panel,
    Query,
    Row,
    Section,
    bars,
    board,
    chart,
    listing,
    number,
    query_variable,
    runbook,
    to_dashboard,
)
from dashboards.prices import cost_of_a_million, in_pools, not_in_pools
from dashboards.promql import (
    everything,
    increase,
    of_model,
    of_version,
    or_zero,
    rate,
    replicas,
    share,
)

_M, _V = of_model(), of_version()
_COMPUTE = "ray_model_compute_seconds_total"
_COST = f"sum by (model) (model:cost_per_hour:sum{_M})"
_BUSY = f"avg by (model) (model:compute_busy:ratio_rate5m{_M})"
_WEIGHTS = f"sum by (model) (model:replicas:count{_M})"
# 1 for the library that computes a model; a part for each where its versions have several.
_ENGINES = f"(max by (model, engine) (ray_model_engine{_V}) > 0)"
_ENGINE = f"{_ENGINES} / on (model) group_left() count by (model) ({_ENGINES})"
# A pool's calls go side by side.
_IDLE = f"clamp_min(1 - sum({_BUSY} * {_WEIGHTS}) / {replicas(_M)}, 0)"


def cost() -> dict[str, Any]:
    models = query_variable(
        "model", f"label_values(ray_model_ready{everything()}, model)", several=True
    )
    versions = query_variable(
        "version", f"label_values(ray_model_ready{_M}, version)", several=True
    )
    return board(
        "cost",
        "CPU and GPU seconds and money, by model, engine and tenant, and what is idle.",
        [models, versions],
        [
            Section("Now", [Row(4, _now())]),
            Section("By model", [Row(8, _by_model()), Row(8, _models())]),
            Section("By engine", [Row(8, _by_engine())]),
            Section("By themselves and in pools", [Row(8, _alone()), Row(8, _pools())]),
            Section("By tenant", [Row(8, _by_tenant())]),
        ],
    )


def _reserved(what: str) -> str:
    """Return the seconds of CPUs or GPUs that replicas held in the time that is shown."""
    return f"60 * sum by (model) (sum_over_time(ray_model_reserved_{what}{_M}[$__range:1m]))"


def _now() -> list[Panel]:
    return [
        number(
            "Cost an hour",
            MONEY,
            to_dashboard("overview"),
            "What the reservations of all replicas cost an hour by `prices:`, in its currency.",
            Query(f"sum({_COST})"),
        ),
        number(
            "Reserved",
            "short",
            to_dashboard("cluster"),
            "CPUs and GPUs that replicas reserve.",
            Query(f"sum(ray_model_reserved_cpus{_M})", "CPUs"),
            Query(f"sum(ray_model_reserved_gpus{_M})", "GPUs"),
        ),
        number(
            "Idle",
            "percentunit",
            runbook("ModelReplicasAtMaximum"),
            "Part of the replicas' time in which their engines compute nothing.",
            Query(_IDLE),
        ),
        number(
            "Engine time of a request",
            "s",
            to_dashboard("model"),
            "Mean seconds of the engine for a request.",
            Query(or_zero(f"{rate(_COMPUTE, _V)} / ({rate('ray_model_requests_total', _V)} > 0)")),
        ),
    ]


def _by_model() -> list[Panel]:
    return [
        chart(
            "Cost an hour",
            MONEY,
            to_dashboard("overview"),
            "What each model's replicas cost an hour by `prices:`.",
            Query(_COST, "{{model}}"),
            look="stacked",
        ),
        chart(
            "Engine seconds a second",
            "short",
            to_dashboard("model"),
            "Engines that compute at the same time: 1 is one replica always busy.",
            Query(rate(_COMPUTE, _V, "model"), "{{model}}"),
            look="stacked",
        ),
        chart(
            "Idle",
            "percentunit",
            runbook("ModelReplicasAtMaximum"),
            "Part of the replicas' time in which their engines compute nothing.",
            Query(f"1 - {_BUSY}", "{{model}}"),
        ),
    ]


def _models() -> list[Panel]:
    engine = increase(_COMPUTE, _V, "model")
    # A price an hour for each replica, each minute; 60 minutes make the hour.
    spent = (
        f"sum by (model) (sum_over_time(ray_model_reserved_cost_per_hour{_M}[$__range:1m])) / 60"
    )
    return [
        listing(
            "Models",
            to_dashboard("model"),
            "In the time that is shown: seconds of CPUs and GPUs reserved, seconds computed,"
            " what that cost, and the part of it that was idle.",
            ["model"],
            Column("CPU seconds", _reserved("cpus"), "s"),
            Column("GPU seconds", _reserved("gpus"), "s"),
            Column("engine seconds", engine, "s"),
            Column("cost", spent, MONEY),
            Column("idle", f"1 - {_BUSY}", "percentunit"),
        ),
    ]


def _by_engine() -> list[Panel]:
    return [
        chart(
            "Cost an hour by engine",
            MONEY,
            to_dashboard("model"),
            "What the replicas cost an hour, by the library that computes in them.",
            Query(
                f"sum by (engine) ({_ENGINE} * on (model) group_left() {_COST})",
                "{{engine}}",
            ),
            look="stacked",
        ),
        listing(
            "Engines",
            to_dashboard("model"),
            "Which library computes each model, and what a million requests cost by its seconds a"
            " request, were its replicas never idle. `strata compare` has the same by the other"
            " libraries.",
            ["model", "engine"],
            Column(
                "cost of a million",
                f"{_ENGINES} * on (model) group_left() ({cost_of_a_million(_V)})",
                MONEY,
            ),
        ),
    ]


def _alone() -> list[Panel]:
    cost = f"sum by (model) ({not_in_pools(f'ray_model_reserved_cost_per_hour{_M}')})"
    memory = not_in_pools(f"ray_model_memory_bytes{_V}")
    return [
        chart(
            "Idle cost an hour of models by themselves",
            MONEY,
            to_dashboard("overview"),
            "What their reservations cost in which nothing is computed. In a pool models share one"
            " reservation, which saves most of this where they are mostly idle.",
            Query(f"{cost} * on (model) (1 - {_BUSY})", "{{model}}"),
            look="stacked",
        ),
        chart(
            "Memory of models by themselves",
            "bytes",
            to_dashboard("cluster"),
            "By how much a replica grew while it loaded the model, its engine's library included:"
            " the most that it would add to a pool. `strata compare` tells it without the library.",
            Query(f"sum by (model) (max by (model, version) ({memory}))", "{{model}}"),
            look="stacked",
        ),
    ]


def _pools() -> list[Panel]:
    cost = in_pools(f"ray_model_reserved_cost_per_hour{_M}")
    memory = in_pools(f"ray_model_memory_bytes{_V}")
    by_model = f"sum by (application, model) (max by (application, model, version) ({memory}))"
    return [
        chart(
            "Cost an hour of models in pools",
            MONEY,
            to_dashboard("cluster"),
            "What the replicas of each pool cost an hour; each of its models is put down for an"
            " equal part. 0 without a pool.",
            Query(or_zero(f"sum by (application) ({cost})"), "{{application}}"),
            look="stacked",
        ),
        chart(
            "Memory of models in pools",
            "bytes",
            runbook("PoolTooSmall"),
            "By how much a pool's replica grew while it loaded each model; 0 while a model rests,"
            " and without a pool.",
            Query(or_zero(by_model), "{{application}} {{model}}"),
            look="stacked",
        ),
    ]


def _by_tenant() -> list[Panel]:
    shares = (
        f"{rate(_COMPUTE, _V, 'model, tenant')}"
        f" / on (model) group_left() ({rate(_COMPUTE, _V, 'model')} > 0)"
    )
    money = f"sum by (tenant) ({shares} * on (model) group_left() {_COST})"
    requests = increase("ray_model_requests_total", _V, "tenant")
    return [
        listing(
            "Tenants",
            to_dashboard("overview"),
            "In the time that is shown, by the header of `tenants:`; `none` sent none. A"
            " model's cost now is shared out by the seconds that its engine computed.",
            ["tenant"],
            Column("requests", requests),
            Column("engine seconds", increase(_COMPUTE, _V, "tenant"), "s"),
            Column("cost an hour", money, MONEY),
        ),
        chart(
            "Engine seconds a second",
            "short",
            to_dashboard("model"),
            "Engines that compute for a tenant at the same time.",
            Query(rate(_COMPUTE, _V, "tenant"), "{{tenant}}"),
            look="stacked",
        ),
        bars(
            "Share of the computation",
            "percentunit",
            to_dashboard("model"),
            "Each tenant's part of all engine seconds, in the time that is shown.",
            Query(
                share(_COMPUTE, _V, "tenant"),
                "{{tenant}}",
            ),
        ),
    ]
