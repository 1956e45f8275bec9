"""Wait until a change of a release's values has arrived in Ray Serve.

Called by `strata apply`. KubeRay writes Ray Serve's statuses into the RayService as it found
them BEFORE it hands on a new configuration, so an old RUNNING may stand there for a moment. An
event tells that the configuration was handed on; two of KubeRay's rounds later the statuses are
those of the new one.
"""

import time
from dataclasses import dataclass

from serve.cluster.application_problems import REFUSAL, sentence
from serve.cluster.connection import Connection
from serve.cluster.errors import ReleaseNotFound
from serve.cluster.objects import Object, event_time, one_line
from serve.cluster.release import applications
from serve.cluster.snapshot import application_states, is_of_release
from serve.deploy.ray_api import ApplicationState
from serve.errors import ConfigError, ModelNotReady, RepositoryError

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
    service = _service(connection, namespace, release)
    events = frozenset(map(_key, connection.events(namespace)))
    return Mark(service["spec"].get("serveConfigV2", ""), events)


def wait(
    connection: Connection, namespace: str, release: str, before: Mark, timeout_s: float
) -> None:
    """Return once the changed release runs. Raises ConfigError, RepositoryError, ModelNotReady."""
    deadline = time.monotonic() + timeout_s
    handed_on: float | None = None
    while True:
        service = _service(connection, namespace, release)
        if service["spec"].get("serveConfigV2", "") == before.serve_config:
            handed_on = 0.0  # nothing to hand on
        elif handed_on is None and _is_handed_on(connection, service, before):
            handed_on = time.monotonic()
        if handed_on is not None and time.monotonic() - handed_on > _SETTLE_S and _runs(service):
            return
        if time.monotonic() > deadline:
            raise ModelNotReady(
                f"not settled after {timeout_s:g} s; see strata doctor {release} -n {namespace}"
            )
        time.sleep(_POLL_S)


def _service(connection: Connection, namespace: str, release: str) -> Object:
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


def _runs(service: Object) -> bool:
    """Tell whether what is configured runs and nothing else. Raises RepositoryError."""
    found = {state.name: state for state in application_states(service)}
    wanted = {application["name"] for application in applications(service)}
    for name in sorted(wanted & set(found)):
        _raise_for_failed(found[name])
    return set(found) == wanted and all(state.status == "RUNNING" for state in found.values())


def _raise_for_failed(state: ApplicationState) -> None:
    if state.status == "DEPLOY_FAILED":
        raise RepositoryError(f"model '{state.name}': {sentence(state)}")
