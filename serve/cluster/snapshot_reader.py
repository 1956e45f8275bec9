"""Read a release from a cluster, as far as the credentials allow.

Called by the commands. What may not be read, such as the operator's namespace, is left out and
noted in the snapshot: a part of a release tells more than none.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from serve.cluster.connection import Connection
from serve.cluster.errors import ClusterError, ObjectNotFound, ReleaseNotFound
from serve.cluster.objects import Object, containers, name_of, phase, release_of
from serve.cluster.release import read_index
from serve.cluster.snapshot import Snapshot

T = TypeVar("T")

_LOG_LINES = 60
_MAX_LOGS = 6  # a crash has one cause or two; more logs only take time


def choose_release(
    connection: Connection, namespace: str, wanted: str | None, otherwise: str | None = None
) -> str:
    """Return the wanted release, or the only one, or `otherwise`. Raises ReleaseNotFound."""
    if wanted is not None:
        return wanted
    try:
        names = sorted(map(release_of, connection.ray_objects("rayservices", namespace)))
    except ObjectNotFound:  # without its kind there is none
        names = []
    if len(names) == 1:
        return names[0]
    if names:
        raise ReleaseNotFound(
            f"namespace '{namespace}' has several releases, name one: {', '.join(names)}"
        )
    if otherwise is None:
        raise ReleaseNotFound(
            f"namespace '{namespace}' has no release; see strata doctor --namespace {namespace}"
        )
    return otherwise


def read_snapshot(connection: Connection, namespace: str, release: str) -> Snapshot:
    """Return the release and what surrounds it. Raises ClusterError if not even that is allowed."""
    unreadable: list[str] = []

    def optional(what: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except ClusterError as err:
            unreadable.append(f"{what}: {err}")
            return otherwise

    try:
        services = connection.ray_objects("rayservices", namespace)
    except ObjectNotFound:
        return _without_crd(connection, namespace, release)
    elsewhere: list[Object] = []
    if not any(release in (release_of(item), name_of(item)) for item in services):
        elsewhere = optional("other namespaces", connection.ray_services_everywhere, elsewhere)
    snapshot = Snapshot(
        namespace=namespace,
        release=_release_name(services, release),
        taken_at=datetime.now(UTC),
        has_namespace=connection.has_namespace(namespace),
        operator_pods=optional("operator", connection.operator_pods, None),
        ray_services=services,
        elsewhere=elsewhere,
        ray_clusters=connection.ray_objects("rayclusters", namespace),
        all_pods=connection.pods(namespace),
        events=optional("events", lambda: connection.events(namespace), []),
        claims=optional("claims", lambda: connection.claims(namespace), []),
        unreadable=unreadable,
    )
    snapshot.logs.update(_logs(connection, snapshot))
    return snapshot


def read_versions(connection: Connection, snapshot: Snapshot) -> None:
    """Add the versions that a ready release serves to the snapshot; none if it is not ready."""
    if snapshot.is_ready:
        try:
            snapshot.index.update(read_index(connection, snapshot.service))
        except ClusterError as err:
            snapshot.unreadable.append(f"versions: {err}")


def _without_crd(connection: Connection, namespace: str, release: str) -> Snapshot:
    has_namespace = connection.has_namespace(namespace)
    return Snapshot(namespace, release, datetime.now(UTC), has_namespace, has_crd=False)


def _release_name(services: list[Object], wanted: str) -> str:
    """Return the release of the RayService that has the wanted name, else the name as it is."""
    return next((release_of(item) for item in services if name_of(item) == wanted), wanted)


def _logs(connection: Connection, snapshot: Snapshot) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for pod in snapshot.pods:
        for container in containers(pod):
            if len(found) < _MAX_LOGS and _is_of_interest(pod, container):
                previous = bool(container.waiting) and container.restarts > 0
                where = (name_of(pod), container.name)
                try:
                    text = connection.log(snapshot.namespace, *where, previous, _LOG_LINES)
                except ClusterError as err:
                    snapshot.unreadable.append(f"log of {where[0]}: {err}")
                else:
                    found[where] = text
    return found


def _is_of_interest(pod: Object, container: Any) -> bool:
    """Tell whether a container ended with an error, or runs and is not ready."""
    if container.is_ready or phase(pod) in ("Succeeded", "Unknown"):
        return False
    ended = container.terminated or container.last_terminated
    runs = not container.waiting and not container.terminated and phase(pod) == "Running"
    return bool(ended and ended.get("exitCode")) or runs
