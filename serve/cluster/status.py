"""The models and pods of a release as `strata status` shows them.

What is configured is always known; versions and replicas that run are asked of the release
through the API server, and where that fails `unknown` says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from serve.cluster.connection import Connection
from serve.cluster.errors import ClusterError, ReleaseNotFound
from serve.cluster.objects import (
    GROUP_LABEL,
    Object,
    containers,
    label,
    name_of,
    pod_state,
)
from serve.cluster.release import configured, read_index, read_running, states
from serve.cluster.snapshot_reader import choose_release, read_snapshot
from serve.deploy.application_status import ApplicationState, member_states

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod in words: `ready` is how many of its containers are, such as 1/2."""

    name: str
    group: str
    ready: str
    state: str
    restarts: int


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """A release's models by name, and its pods."""

    release: str
    is_ready: bool
    states: dict[str, ApplicationState]
    policies: dict[str, dict[str, Any]]
    labels: dict[str, dict[str, int]]
    index: dict[str, list[dict[str, Any]]]
    has_replicas: bool
    pods: list[PodState]
    unknown: list[str]


def read_status(connection: Connection, namespace: str, wanted: str | None) -> ReleaseStatus:
    """Return what a release serves. Raises ReleaseNotFound, ClusterError."""
    snapshot = read_snapshot(connection, namespace, choose_release(connection, namespace, wanted))
    service = snapshot.service
    if not service:
        raise ReleaseNotFound(
            f"namespace '{namespace}' has no release '{snapshot.release}'; "
            f"see strata doctor {snapshot.release} --namespace {namespace}"
        )
    unknown: list[str] = []
    running, index = None, None
    if service.get("status", {}).get("activeServiceStatus", {}).get("rayClusterName"):
        running = _known("replicas", lambda: read_running(connection, service), unknown)
        index = _known("versions", lambda: read_index(connection, service), unknown)
    models = configured(service)
    known = {name: _counted(state, running or {}) for name, state in states(service).items()}
    pools = {name: model.pool for name, model in models.items() if model.pool is not None}
    known |= member_states(known, pools, index or {})
    return ReleaseStatus(
        release=snapshot.release,
        is_ready=snapshot.is_ready,
        states=dict(sorted(known.items())),
        policies={name: model.version_policy for name, model in models.items()},
        labels={name: model.version_labels for name, model in models.items()},
        index=index or {},
        has_replicas=running is not None,
        pods=[_pod_state(pod) for pod in sorted(snapshot.pods, key=name_of)],
        unknown=unknown,
    )


def _known(what: str, read: Callable[[], T], unknown: list[str]) -> T | None:
    try:
        return read()
    except ClusterError as err:
        unknown.append(f"{what} that run are not known: {err}")
        return None


def _counted(state: ApplicationState, running: Mapping[str, ApplicationState]) -> ApplicationState:
    """Return a state as the RayService has it, with the numbers of replicas that Ray Serve has."""
    found = running.get(state.name)
    if found is None:
        return state
    return replace(
        state, running_replicas=found.running_replicas, target_replicas=found.target_replicas
    )


def _pod_state(pod: Object) -> PodState:
    own = [container for container in containers(pod) if not container.is_init]
    return PodState(
        name=name_of(pod),
        group=label(pod, GROUP_LABEL) or label(pod, "app.kubernetes.io/component") or "-",
        ready=f"{sum(container.is_ready for container in own)}/{len(own)}",
        state=pod_state(pod),
        restarts=sum(container.restarts for container in own),
    )
