"""What a cluster says of one release at one moment, as plain objects.

Made by snapshot_reader from a cluster, or by a test from dictionaries; read by the problems'
modules and by release. Nothing in here asks a cluster.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from serve.cluster.objects import (
    CLUSTER_LABEL,
    RELEASE_LABEL,
    Object,
    is_true,
    label,
    name_of,
    release_of,
)
from serve.deploy.application_status import ApplicationState, read_state

ORIGIN_LABEL = "ray.io/originated-from-cr-name"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A release and its surroundings; `logs` are last lines by pod and container."""

    namespace: str
    release: str
    taken_at: datetime
    has_namespace: bool = True
    has_crd: bool = True
    operator_pods: list[Object] | None = None  # None: they could not be read
    ray_services: list[Object] = field(default_factory=list)
    elsewhere: list[Object] = field(default_factory=list)
    ray_clusters: list[Object] = field(default_factory=list)
    all_pods: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    claims: list[Object] = field(default_factory=list)
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    index: dict[str, list[Any]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    @property
    def service(self) -> Object:
        """The release's RayService; empty if there is none."""
        found = (item for item in self.ray_services if is_of_release(item, self.release))
        return next(found, {})

    @property
    def clusters(self) -> list[Object]:
        """The release's RayClusters: one, or two while a second one takes over."""
        name = name_of(self.service)
        return [item for item in self.ray_clusters if label(item, ORIGIN_LABEL) == name]

    @property
    def pods(self) -> list[Object]:
        """The release's pods: Ray's, and those of its Jobs and its Redis."""
        clusters = {name_of(cluster) for cluster in self.clusters}
        return [
            pod
            for pod in self.all_pods
            if label(pod, RELEASE_LABEL) == self.release or label(pod, CLUSTER_LABEL) in clusters
        ]

    @property
    def is_ready(self) -> bool:
        return is_true(self.service, "Ready")

    @property
    def applications(self) -> dict[str, ApplicationState]:
        """What Ray Serve says of each application, of a coming cluster where there is one."""
        return {state.name: state for state in application_states(self.service)}


def is_of_release(item: Object, release: str) -> bool:
    """Tell whether an object belongs to a release, or has its name."""
    return release in (release_of(item), name_of(item))


def application_states(service: Object) -> Iterator[ApplicationState]:
    """Return the state of each application in a RayService's status.

    While a second cluster takes over, what it says of an application goes before the first one's.
    """
    status = service.get("status", {})
    found: dict[str, Object] = {}
    for part in ("activeServiceStatus", "pendingServiceStatus"):
        found.update(status.get(part, {}).get("applicationStatuses") or {})
    return (read_state(name, tree) for name, tree in found.items())
