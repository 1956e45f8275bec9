"""What Ray Serve says of its applications: their status, a sentence on why, their replicas.

The one reader of that, in Ray Serve's REST API (ray_api) or in the status of a RayService on a
cluster (cluster.snapshot).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from serve.config.sections import pool_application
from serve.protocols.metadata_v2 import AWAITED, RESTING
from serve.replica.failure_reason import failure_reason


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """The state of one application; `status` is Ray Serve's word: RUNNING once it answers.

    Or of a model in a `pool`, whose replicas they are: WAITING for its first version, RESTING until
    a request has it loaded, UNAVAILABLE if it cannot be.
    """

    name: str
    status: str
    message: str
    running_replicas: int
    target_replicas: int
    pool: str = ""

    @property
    def is_asleep(self) -> bool:
        """Tell whether it is scaled to zero; where replicas are not known it cannot be told."""
        return self.status == "RUNNING" and not self.target_replicas and not self.running_replicas

    @property
    def reason(self) -> str:
        """The sentence in the message that is for people, without the tracebacks around it."""
        return failure_reason(self.message)


def read_state(name: str, tree: Mapping[str, Any]) -> ApplicationState:
    """Return the state of an application from what Ray Serve or KubeRay says of it as JSON.

    Ray Serve's REST API has `deployments` with their replicas. KubeRay copies these deployments to
    `serveDeploymentStatuses` and leaves the replicas out: their numbers are 0 then.
    """
    deployments = tree.get("deployments") or tree.get("serveDeploymentStatuses") or {}
    messages = [tree.get("message"), *(each.get("message") for each in deployments.values())]
    replicas = [replica for each in deployments.values() for replica in each.get("replicas", ())]
    return ApplicationState(
        name=name,
        status=tree.get("status", ""),
        message="\n".join(message for message in messages if message),
        running_replicas=sum(replica["state"] == "RUNNING" for replica in replicas),
        target_replicas=sum(each.get("target_num_replicas", 0) for each in deployments.values()),
    )


def member_states(
    states: Mapping[str, ApplicationState],
    pools: Mapping[str, str],
    index: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, ApplicationState]:
    """Return the states of the models in pools, by those of the pools and the repository index.

    `pools` are the pools' names by model. Without an index a model is as its pool is.
    """
    found = {}
    for name, pool in pools.items():
        of_pool = states.get(pool_application(pool))
        if of_pool is not None:
            found[name] = _member_state(name, pool, of_pool, index.get(name, ()) if index else None)
    return found


def _member_state(
    name: str,
    pool: str,
    of_pool: ApplicationState,
    entries: Sequence[Mapping[str, Any]] | None,
) -> ApplicationState:
    status, message = of_pool.status, of_pool.message
    if status == "RUNNING" and entries is not None and not of_pool.is_asleep:
        reasons = [str(each.get("reason", "")) for each in entries if each["state"] != "READY"]
        if len(reasons) == len(entries):  # no version of it answers
            status, message = _why_absent(reasons)
    return replace(of_pool, name=name, status=status, message=message, pool=pool)


def _why_absent(reasons: Sequence[str]) -> tuple[str, str]:
    """Return the status and message of a model in a pool none of whose versions answers."""
    if RESTING in reasons:
        return "RESTING", ""
    awaited = any(reason.endswith(AWAITED) for reason in reasons)
    return "WAITING" if awaited else "UNAVAILABLE", "; ".join(filter(None, reasons))
