"""Problems of what Ray Serve runs: models that do not load, replicas that find no room.

Each function takes a snapshot and yields what it finds; diagnosis calls them all.
Ray Serve's messages carry tracebacks; only the sentence at their end is for people.
"""

import re
from collections.abc import Iterator

from serve.cluster.findings import Finding, Kind, finding
from serve.cluster.objects import event_messages, event_time, name_of, one_line, seconds_since
from serve.cluster.release import waiting
from serve.cluster.snapshot import Snapshot
from serve.deploy.application_status import ApplicationState
from serve.protocols.metadata_v2 import RESTING

_VALIDATION = re.compile(
    r"\d+ validation errors? for [\w.]+\n(?P<key>[^\n]+)\n\s+(?P<why>[^\n\[]+)"
)
_NOT_HANDED_ON = "FailedToUpdateServeApplications"
# KubeRay tries again within it. Later the event of the try that went well may be missing:
# Kubernetes takes 25 events of an object at once, and one more every five minutes.
_TRIED_AGAIN_S = 180.0
REFUSAL = re.compile(r"UpdateDeployments fail: (4\d\d .*)", re.DOTALL)
_RESOURCES = re.compile(
    r"Resources required for each replica: (.+?), total resources available: (.+?)\. ", re.DOTALL
)


def find_refused_config(snapshot: Snapshot) -> Iterator[Finding]:
    """KubeRay cannot hand `serveConfigV2` on: Ray Serve refuses it, or the head does not answer."""
    service = snapshot.service
    failed = _last(snapshot, _NOT_HANDED_ON)
    if failed <= _last(snapshot, "UpdatedServeApplications"):
        return
    is_well = snapshot.is_ready and not waiting(service)
    is_past = is_well and seconds_since(failed, snapshot.taken_at) >= _TRIED_AGAIN_S
    for message in event_messages(snapshot.events, service, _NOT_HANDED_ON)[-1:]:
        refusal = REFUSAL.search(message)
        if refusal:
            problem = f"Ray Serve refuses the release's configuration: {one_line(refusal[1])}"
            remedy = "correct the values that it names and apply again; models run on as they were"
            yield finding(Kind.CONFIG_REFUSED, name_of(service), problem, remedy)
        elif not is_past:
            said = one_line(message.rsplit("err: ", 1)[-1])
            problem = f"KubeRay does not reach Ray's dashboard on the head: {said}"
            remedy = (
                "wait while the head starts; else give it more CPU, and where there is a "
                "NetworkPolicy let the operator in"
            )
            yield finding(Kind.HEAD_UNREACHABLE, name_of(service), problem, remedy)


def _last(snapshot: Snapshot, reason: str) -> str:
    """Return when an event of the release was last seen; empty if never."""
    uid = snapshot.service.get("metadata", {}).get("uid")
    return max(
        (
            event_time(event)
            for event in snapshot.events
            if event.get("reason") == reason and event.get("involvedObject", {}).get("uid") == uid
        ),
        default="",
    )


def find_wrong_keys(snapshot: Snapshot) -> Iterator[Finding]:
    """A model's configuration has a key or value that it may not have."""
    for state in _failed(snapshot):
        found = _VALIDATION.search(state.message)
        if found:
            problem = f"{found['key'].strip()}: {found['why'].strip().lower()}"
            remedy = (
                "correct the key in the values; strata schema and docs/configuration.md list them"
            )
            yield finding(Kind.WRONG_KEY, state.name, problem, remedy)


def find_models_not_loaded(snapshot: Snapshot) -> Iterator[Finding]:
    """A model's replicas do not start; with the model's own message."""
    for state in _failed(snapshot):
        if not _VALIDATION.search(state.message):
            problem = f"the model does not load: {one_line(state.reason)}"
            remedy = "publish a version that loads, or correct the model's entry in the values"
            yield finding(Kind.MODEL_NOT_LOADED, state.name, problem, remedy)


def _failed(snapshot: Snapshot) -> Iterator[ApplicationState]:
    for state in snapshot.applications.values():
        has_failed = state.status == "DEPLOY_FAILED"
        if has_failed or (state.status == "DEPLOYING" and "Traceback" in state.message):
            yield state


def find_unhealthy_models(snapshot: Snapshot) -> Iterator[Finding]:
    """A model ran and now fails its health checks."""
    for state in snapshot.applications.values():
        if state.status == "UNHEALTHY":
            problem = f"the model ran and is unhealthy now: {one_line(state.reason)}"
            remedy = "Ray Serve restarts its replicas; read their logs on the worker pods"
            yield finding(Kind.MODEL_UNHEALTHY, state.name, problem, remedy)


def find_no_room_for_replicas(snapshot: Snapshot) -> Iterator[Finding]:
    """Replicas wait for CPUs, GPUs or memory that Ray's workers do not have."""
    for state in snapshot.applications.values():
        found = _RESOURCES.search(state.message)
        if found and state.status == "DEPLOYING" and "be scheduled" in state.message:
            yield finding(
                Kind.NO_ROOM_FOR_REPLICAS,
                state.name,
                f"a replica needs {one_line(found[1])} and Ray's workers have {one_line(found[2])}",
                "raise worker.cpus, maxReplicas or add a worker group with what it needs, or lower "
                "the model's ray_actor_options",
            )


def find_slow_models(snapshot: Snapshot) -> Iterator[Finding]:
    """Replicas take long to load."""
    for state in snapshot.applications.values():
        if state.status == "DEPLOYING" and "to initialize" in state.message:
            problem = (
                "the model takes long to load: large versions, a slow store, or too little CPU"
            )
            remedy = "wait, or give workers more CPU; the replica's log says what it does"
            yield finding(Kind.MODEL_DEPLOYING, state.name, problem, remedy)


def find_versions_not_served(snapshot: Snapshot) -> Iterator[Finding]:
    """A model answers, but a version that was asked for is not among those served."""
    for name, entries in snapshot.index.items():
        for entry in entries:
            if entry.get("reason") == RESTING:  # until somebody asks for it
                continue
            if entry.get("state") not in ("READY", "LOADING") and "version" in entry:
                problem = f"version {entry['version']} is not served: {entry.get('reason', '')}"
                remedy = "publish the version again, or take it out of version_policy"
                yield finding(Kind.VERSION_NOT_SERVED, name, problem, remedy)
