"""The nodes that a release has and may get: the head, and worker groups as far as they may grow.

Called by `strata apply`; pure. What a pod brings into Ray is what KubeRay makes of it: the
`rayStartParams` if they say so, else the container's resources.
"""

import json
import math
from typing import Any

from serve.cluster.objects import Object
from serve.deploy.capacity import Nodes

_UNITS = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip


def nodes_of(service: Object) -> list[Nodes]:
    """Return the nodes of a RayService; none if it does not say."""
    cluster = service.get("spec", {}).get("rayClusterConfig", {})
    workers = cluster.get("workerGroupSpecs") or ()
    if not workers:
        return []
    grows = cluster.get("enableInTreeAutoscaling", False)
    found = [_nodes("head", cluster.get("headGroupSpec", {}), 1)]
    for group in workers:
        key = "maxReplicas" if grows else "replicas"
        found.append(_nodes(group.get("groupName", ""), group, int(group.get(key) or 0)))
    return [each for each in found if each.count]


def _nodes(name: str, group: Object, count: int) -> Nodes:
    params = group.get("rayStartParams") or {}
    containers = group.get("template", {}).get("spec", {}).get("containers") or [{}]
    resources = containers[0].get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    gpus = next((amount for key, amount in limits.items() if _is_gpu(key)), 0)
    return Nodes(
        name,
        {
            "CPU": _amount(params.get("num-cpus", limits.get("cpu", requests.get("cpu"))), up=True),
            "GPU": _amount(params.get("num-gpus", gpus)),
            "memory": _amount(params.get("memory", limits.get("memory"))),
            **_custom(params.get("resources")),
        },
        count,
    )


def _is_gpu(key: str) -> bool:
    return key.endswith("/gpu") or "/mig-" in key


def _custom(text: Any) -> dict[str, float | None]:
    """Return custom resources, which KubeRay takes as JSON within a string of JSON."""
    try:
        tree = json.loads(text) if text else {}
        tree = json.loads(tree) if isinstance(tree, str) else tree
        return {str(name): float(amount) for name, amount in tree.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _amount(text: Any, *, up: bool = False) -> float | None:
    """Return a quantity of Kubernetes, such as 500m or 8Gi, as a number; None if it is none."""
    if text is None:
        return None
    digits = str(text).rstrip("".join(_UNITS))
    try:
        amount = float(digits) * _UNITS[str(text)[len(digits) :]]
    except (ValueError, KeyError):
        return None
    return float(math.ceil(amount)) if up else amount
