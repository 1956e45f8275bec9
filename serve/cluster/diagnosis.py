"""Why a release is not ready: all checks, in the order in which a release comes to life.

Called by `strata doctor`. A check is a pure function from a snapshot to findings, so a test
needs no cluster; a new one is added to the list here, to Kind and to docs/operations.md.
"""

from collections.abc import Callable, Iterator

from serve.cluster import (
    application_problems,
    container_problems,
    platform_problems,
    pod_problems,
)
from serve.cluster.findings import Finding, Kind, finding, merged
from serve.cluster.objects import (
    NODE_TYPE_LABEL,
    condition,
    containers,
    is_true,
    label,
    name_of,
    phase,
    pod_state,
)
from serve.cluster.release import waiting
from serve.cluster.snapshot import Snapshot

Check = Callable[[Snapshot], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    platform_problems.find_missing_namespace,
    platform_problems.find_missing_operator,
    platform_problems.find_missing_release,
    platform_problems.find_invalid_release,
    platform_problems.find_refused_pods,
    platform_problems.find_initializing_timeout,
    pod_problems.find_image_pull,
    pod_problems.find_unschedulable,
    pod_problems.find_missing_volumes,
    pod_problems.find_missing_references,
    container_problems.find_cannot_start,
    container_problems.find_out_of_memory,
    container_problems.find_redis_unreachable,
    container_problems.find_crashes,
    container_problems.find_evictions,
    container_problems.find_failed_probes,
    application_problems.find_refused_config,
    application_problems.find_wrong_keys,
    application_problems.find_models_not_loaded,
    application_problems.find_unhealthy_models,
    application_problems.find_no_room_for_replicas,
    application_problems.find_slow_models,
    application_problems.find_versions_not_served,
)


def find_problems(snapshot: Snapshot) -> list[Finding]:
    """Return what is wrong with the release, causes before effects; empty if it is healthy."""
    found = merged(each for check in CHECKS for each in check(snapshot))
    return found or list(_starting(snapshot))


def _starting(snapshot: Snapshot) -> Iterator[Finding]:
    """Say how far a release has come that is not ready although no check found a problem."""
    names = waiting(snapshot.service)
    if snapshot.is_ready and not names:
        return
    what = f"waits for {', '.join(sorted(names))}" if names else "has no endpoint that answers"
    said = condition(snapshot.service, "Ready").get("message", "")
    pods = ", ".join(_progress(snapshot)) or "no pods yet"
    yield finding(
        Kind.STARTING,
        snapshot.release,
        f"the release is starting: it {what} ({pods}){f'; KubeRay: {said}' if said else ''}",
        "nothing is wrong so far: ask again in a minute, or watch kubectl get pods -w",
    )


def _progress(snapshot: Snapshot) -> Iterator[str]:
    """Yield a state for each pod that is not ready, such as `worker in wait-gcs-ready`."""
    for pod in snapshot.pods:
        if phase(pod) == "Succeeded" or is_true(pod, "Ready"):
            continue
        init = [c.name for c in containers(pod) if c.is_init and not c.is_ready and not c.waiting]
        kind = label(pod, NODE_TYPE_LABEL) or name_of(pod)
        yield f"{kind} {f'in {init[0]}' if init else pod_state(pod)}"
