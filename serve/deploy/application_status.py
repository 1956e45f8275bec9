"""What Ray Serve says of its applications: their status, a sentence on why, their replicas.

The one reader of that, in Ray Serve's REST API (ray_api) or in the status of a RayService on a
cluster (cluster.snapshot).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve.replica.failure_reason import failure_reason


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """The state of one application; `status` is Ray Serve's word: RUNNING once it answers."""

    name: str
    status: str
    message: str
    running_replicas: int
    target_replicas: int

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
