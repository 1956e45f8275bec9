"""Whether there is a place for every replica that a config asks for.

Called by `strata up` and `strata apply`, here and on a cluster, before anything changes: Ray Serve
stops a model's replicas before it starts those that replace them, so a replica that fits nowhere
would leave the model without any.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve.config.schema import Config
from serve.config.sections import Pool, Process, RayActorOptions, Served
from serve.errors import ConfigError

GATEWAY_CPUS = 0.1  # what its replica asks for
_ROUNDING = 1e-4  # Ray counts in ten-thousandths


@dataclass(frozen=True, slots=True)
class Nodes:
    """Nodes that are alike: what Ray shares out of one by resource, and how many there may be.

    Resources have Ray's names: CPU, GPU, memory (bytes), and those of the user. One that is None is
    not known, and enough for anything.
    """

    name: str
    resources: Mapping[str, float | None]
    count: int = 1


def require_room(config: Config, nodes: Sequence[Nodes]) -> None:
    """Raise ConfigError for a model no node can hold, or for models that all of them cannot.

    Without nodes nothing is known and nothing refused.
    """
    if not nodes:
        return
    for process in config.processes:
        if process.autoscaling.max_replicas and not any(_fits(process, each) for each in nodes):
            raise ConfigError(_no_node(process, nodes))
    _require_room_for_all(config, nodes)


def wanted(options: RayActorOptions) -> dict[str, float]:
    """Return what one replica takes, by Ray's names of resources."""
    found = {"CPU": options.num_cpus, "GPU": options.num_gpus, "memory": options.memory or 0}
    found |= options.resources or {}
    return {name: float(amount) for name, amount in found.items() if amount}


def nodes_of_ray(tree: Mapping[str, Any]) -> list[Nodes]:
    """Return the nodes that live, of what Ray's state API says of them (`/api/v0/nodes`)."""
    found = tree.get("data", {}).get("result", {}).get("result", ())
    return [
        Nodes(node.get("node_ip", ""), node["resources_total"])
        for node in found
        if node.get("state") == "ALIVE" and node.get("resources_total")
    ]


def _fits(process: Process, nodes: Nodes) -> bool:
    return all(
        _amount(nodes, name) >= amount - _ROUNDING
        for name, amount in wanted(process.ray_actor_options).items()
    )


def _amount(nodes: Nodes, name: str) -> float:
    amount = nodes.resources.get(name, 0.0)
    return float("inf") if amount is None else amount


def _no_node(process: Served | Pool, nodes: Sequence[Nodes]) -> str:
    needs = wanted(process.ray_actor_options)
    most = {name: max(_amount(each, name) for each in nodes) for name in needs}
    kind = "pool" if isinstance(process, Pool) else "model"
    return (
        f"{kind} '{process.name}': a replica asks for {_text(needs)}, and no node has that or "
        f"may get it (the most that one has: {_text(most)}); lower its ray_actor_options, or add "
        "such a node"
    )


def _require_room_for_all(config: Config, nodes: Sequence[Nodes]) -> None:
    """Raise ConfigError if the replicas at rest need more of something than there may ever be."""
    needed: Counter[str] = Counter()
    for process in config.processes:
        for name, amount in wanted(process.ray_actor_options).items():
            needed[name] += amount * process.autoscaling.min_replicas  # type: ignore[assignment]
    needed["CPU"] += GATEWAY_CPUS  # type: ignore[assignment]
    for name, amount in needed.items():
        there = sum(_amount(each, name) * each.count for each in nodes if each.count)
        if amount > there + _ROUNDING:
            askers = _largest_askers(config.processes, name)
            raise ConfigError(
                f"the replicas at rest ask for {_text({name: amount})} together, and all nodes "
                f"have {_text({name: there})}; the most of it: {', '.join(askers)}; lower their "
                "ray_actor_options or min_replicas, or add nodes"
            )


def _largest_askers(processes: Iterable[Served | Pool], name: str) -> list[str]:
    amounts = {
        each.name: wanted(each.ray_actor_options).get(name, 0.0) * each.autoscaling.min_replicas
        for each in processes
    }
    return sorted((each for each in amounts if amounts[each]), key=lambda n: -amounts[n])[:3]


def _text(resources: Mapping[str, float]) -> str:
    units = {"CPU": "CPUs", "GPU": "GPUs", "memory": "bytes of memory"}
    return ", ".join(f"{amount:.10g} {units.get(name, name)}" for name, amount in resources.items())
