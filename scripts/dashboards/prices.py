"""What computation costs, as PromQL: of models by themselves, and of those that share a pool.

Called by cost and layers.
"""

from dashboards.promql import everything, rate

_POOLS = f"ray_pool_memory_bytes{everything()}"


def cost_of_a_million(selector: str) -> str:
    """Return what a million requests cost by the engine's seconds of one, by model."""
    by = "application, model"
    computed, requests = (
        rate(f"ray_model_{what}_total", selector, by) for what in ("compute_seconds", "requests")
    )
    return (
        "1e6 / 3600 * max by (model)"
        f" ({computed} / ({requests} > 0) * on (application) group_left () ({_price_of_a_call()}))"
    )


def _price_of_a_call() -> str:
    """Return what an hour of engine calls costs, by application.

    A call takes all that a model's replica reserves, and one core of a pool's, whose models are
    each put down for a part of the reservation.
    """
    cpus, cost = (f"ray_model_reserved_{what}{everything()}" for what in ("cpus", "cost_per_hour"))
    cores = f"sum by (application, replica) ({in_pools(cpus)})"
    calls_of_pools = f"sum by (application) (clamp_min(ceil({cores} - 0.01), 1))"
    calls = f"{calls_of_pools} or count by (application) ({cpus})"
    return f"sum by (application) ({cost}) / ({calls})"


def in_pools(metric: str) -> str:
    """Return the series of models that share a pool's replicas."""
    return f"({metric} and on (namespace, application) {_POOLS})"


def not_in_pools(metric: str) -> str:
    """Return the series of models that have replicas of their own."""
    return f"({metric} unless on (namespace, application) {_POOLS})"
