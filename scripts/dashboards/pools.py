"""The row of the dashboard "cluster" for pools: memory of their replicas, and what is loaded."""

from dashboards.panels import Query, Row, chart, runbook, to_dashboard
from dashboards.promql import everything, increase, of_model, or_zero

_ALL = everything()

_BYTES = "ray_model_memory_bytes"


def pools() -> list[Row]:
    return [
        Row(
            7,
            [
                chart(
                    "Memory of pools",
                    "bytes",
                    runbook("PoolTooSmall"),
                    "Memory of a replica of each pool, where it has most, and what it may have."
                    " 0 without a pool.",
                    Query(or_zero(f"max by (model) (ray_pool_memory_bytes{_ALL})"), "{{model}}"),
                    Query(
                        f"max by (model) (ray_pool_memory_limit_bytes{_ALL})", "{{model}} may have"
                    ),
                ),
                chart(
                    "Memory by model",
                    "bytes",
                    to_dashboard("cost"),
                    "About what each model of a pool took when it was loaded; 0 while it is not.",
                    Query(
                        or_zero(f"sum by (model) (max by (model, version) ({_BYTES}{of_model()}))"),
                        "{{model}}",
                    ),
                ),
                chart(
                    "Models in pools",
                    "short",
                    runbook("PoolTooSmall"),
                    "Models of each pool's replicas that are loaded, that rest until they are asked"
                    " for, and that failed. 0 without a pool.",
                    Query(
                        or_zero(f"max by (model, state) (ray_pool_models{_ALL})"),
                        "{{model}} {{state}}",
                    ),
                ),
                chart(
                    "Unloaded to make room",
                    "short",
                    runbook("PoolTooSmall"),
                    "Models that the replicas of a pool unloaded for others. 0 without a pool.",
                    Query(or_zero(increase("ray_pool_unloads_total", _ALL, "model")), "{{model}}"),
                ),
            ],
        )
    ]
