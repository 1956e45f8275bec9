"""Wait until a change of a release's values has arrived in Ray Serve.

Called by `strata apply`. KubeRay writes Ray Serve's statuses into the RayService as it found
them BEFORE it hands on a new configuration, so an old RUNNING may stand there for a moment. An
event tells that the configuration was handed on; two of KubeRay's rounds later the statuses are
those of the new one.
"""

import math
import time
from dataclasses import dataclass

from serve.cluster.application_problems import REFUSAL
from serve.cluster.connection import Connection
from serve.cluster.errors import ReleaseNotFound
from serve.cluster.objects import Object, event_time, one_line
from serve.cluster.release import applications
from serve.cluster.snapshot import application_states, is_of_release
from serve.deploy.application_status import ApplicationState
from serve.deploy.rollout import wait_until_running
from serve.errors import ConfigError

_POLL_S = 1.0
_SETTLE_S = 6.0  # KubeRay looks every 2 s
_HANDED_ON = "UpdatedServeApplications"
_REFUSED = "FailedToUpdateServeApplications"


@dataclass(frozen=True, slots=True)
class Mark:
    """How a release was before a change."""

    serve_config: str
    events: frozenset[tuple[str, str]]


def mark(connection: Connection, namespace: str, release: str) -> Mark:
    """Remember how a release is. Raises ReleaseNotFound, ClusterError."""
    service = read_service(connection, namespace, release)
    events = frozenset(map(_key, connection.events(namespace)))
    return Mark(service["spec"].get("serveConfigV2", ""), events)


def wait(
    connection: Connection, namespace: str, release: str, before: Mark, timeout_s: float
) -> None:
    """Return once the changed release runs. Raises ConfigError, RepositoryError, ModelNotReady."""
    service = read_service(connection, namespace, release)
    changed = _Change(connection, namespace, release, before)
    wait_until_running(
        changed.states,
        {application["name"] for application in applications(service)},
        timeout_s,
        see=f"strata doctor {release} -n {namespace}",
        poll_s=_POLL_S,
    )


class _Change:
    """A change of a release on its way to Ray Serve."""

    def __init__(self, connection: Connection, namespace: str, release: str, before: Mark) -> None:
        self._connection = connection
        self._where = namespace, release
        self._before = before
        self._handed_on_at: float | None = None

    def states(self) -> dict[str, ApplicationState]:
        """Return the applications' states; NOT_HANDED_ON while they may be those of before."""
        service = read_service(self._connection, *self._where)
        if self._handed_on_at is None:
            self._handed_on_at = self._look_for_hand_over(service)
        if self._handed_on_at is None or time.monotonic() - self._handed_on_at <= _SETTLE_S:
            names = (application["name"] for application in applications(service))
            return {name: ApplicationState(name, "NOT_HANDED_ON", "", 0, 0) for name in names}
        return {state.name: state for state in application_states(service)}

    def _look_for_hand_over(self, service: Object) -> float | None:
        if service["spec"].get("serveConfigV2", "") == self._before.serve_config:
            return -math.inf  # there is nothing to hand on
        return time.monotonic() if _is_handed_on(self._connection, service, self._before) else None


def read_service(connection: Connection, namespace: str, release: str) -> Object:
    for item in connection.ray_objects("rayservices", namespace):
        if is_of_release(item, release):
            return item
    raise ReleaseNotFound(f"namespace '{namespace}' has no release '{release}'; see strata doctor")


def _is_handed_on(connection: Connection, service: Object, before: Mark) -> bool:
    """Tell whether Ray Serve has the new configuration. Raises ConfigError if it refuses it."""
    uid = service["metadata"]["uid"]
    new = [
        event
        for event in connection.events(service["metadata"]["namespace"])
        if event.get("involvedObject", {}).get("uid") == uid and _key(event) not in before.events
    ]
    new.sort(key=event_time)
    if new and any(event["reason"] == _HANDED_ON for event in new):
        return True
    for event in new:
        said = REFUSAL.search(event["message"])  # a head that does not answer yet is tried again
        if event["reason"] == _REFUSED and said:
            raise ConfigError(f"Ray Serve refused the configuration: {one_line(said[1])}")
    return False


def _key(event: Object) -> tuple[str, str]:
    return str(event.get("metadata", {}).get("uid")), event_time(event)
