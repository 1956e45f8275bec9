"""Read Kubernetes objects as the API gives them: nested dictionaries whose keys may be missing.

Pure functions, used by every finding and by release. KubeRay's field names are those of its
CRD `rayservices.ray.io/v1`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Object = dict[str, Any]

RELEASE_LABEL = "app.kubernetes.io/instance"
NODE_TYPE_LABEL = "ray.io/node-type"
GROUP_LABEL = "ray.io/group"
CLUSTER_LABEL = "ray.io/cluster"
_JOB_LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod: its image, and its states as the kubelet reports them, else empty."""

    name: str
    image: str
    is_init: bool
    is_ready: bool
    restarts: int
    waiting: Object
    terminated: Object
    last_terminated: Object


def name_of(item: Object) -> str:
    return str(item.get("metadata", {}).get("name", ""))


def label(item: Object, key: str) -> str:
    return str(item.get("metadata", {}).get("labels", {}).get(key, ""))


def release_of(item: Object) -> str:
    """Return the Helm release that an object belongs to, or its own name."""
    return label(item, RELEASE_LABEL) or name_of(item)


def job_of(pod: Object) -> str:
    return label(pod, _JOB_LABEL)


def condition(item: Object, kind: str) -> Object:
    """Return the condition of a type; empty if it is not there."""
    found = (c for c in item.get("status", {}).get("conditions", ()) if c.get("type") == kind)
    return next(found, {})


def is_true(item: Object, kind: str) -> bool:
    return condition(item, kind).get("status") == "True"


def phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Unknown"))


def containers(pod: Object) -> list[Container]:
    """Return the containers of a pod, init containers first, in the order of its spec."""
    return [*_containers(pod, "initContainer", True), *_containers(pod, "container", False)]


def _containers(pod: Object, kind: str, is_init: bool) -> Iterator[Container]:
    statuses = {s["name"]: s for s in pod.get("status", {}).get(f"{kind}Statuses", ())}
    for spec in pod.get("spec", {}).get(f"{kind}s", ()):
        status = statuses.get(spec["name"], {})
        state = status.get("state", {})
        yield Container(
            name=spec["name"],
            image=spec.get("image", ""),
            is_init=is_init,
            is_ready=bool(status.get("ready")),
            restarts=int(status.get("restartCount", 0)),
            waiting=state.get("waiting", {}),
            terminated=state.get("terminated", {}),
            last_terminated=status.get("lastState", {}).get("terminated", {}),
        )


def pod_state(pod: Object) -> str:
    """Return the pod's STATUS in `kubectl get pods`: its phase, or what a container waits for."""
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return "Terminating"
    for container in containers(pod):
        reason = container.waiting.get("reason", "")
        if reason not in ("", "PodInitializing", "ContainerCreating"):
            return f"Init:{reason}" if container.is_init else str(reason)
    reason = pod.get("status", {}).get("reason") or phase(pod)
    return str(reason)


def event_messages(events: Iterable[Object], item: Object, *reasons: str) -> list[str]:
    """Return the messages of an object's events with one of these reasons, latest last."""
    uid = item.get("metadata", {}).get("uid")
    found = [
        event
        for event in events
        if event.get("reason") in reasons and event.get("involvedObject", {}).get("uid") == uid
    ]
    return [str(event.get("message", "")) for event in sorted(found, key=event_time)]


def event_time(event: Object) -> str:
    """Return when an event was last seen; RFC 3339, so texts sort like times."""
    series = event.get("series") or {}
    when = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(when or event.get("metadata", {}).get("creationTimestamp", ""))


def one_line(text: str, limit: int = 400) -> str:
    """Return a text as one line of at most `limit` characters; a longer one ends in dots."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 3]}..."


def age_s(item: Object, now: datetime) -> float:
    """Return the seconds since an object was created; 0 if it does not say when."""
    created = item.get("metadata", {}).get("creationTimestamp")
    return seconds_since(created, now) if created else 0.0


def seconds_since(when: str, now: datetime) -> float:
    """Return the seconds since a time of Kubernetes' (RFC 3339)."""
    return (now - datetime.fromisoformat(when)).total_seconds()
