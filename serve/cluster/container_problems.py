"""Problems of containers that start and end, or run and do not become ready.

Each function takes a snapshot and yields what it finds; diagnosis calls them all.
KubeRay deletes a Ray pod that has ended and makes another, so what a Ray container died of is
often told by an event of its RayCluster alone.
"""

import re
from collections.abc import Iterator

from serve.cluster.findings import Finding, Kind, finding
from serve.cluster.objects import (
    NODE_TYPE_LABEL,
    Container,
    Object,
    containers,
    event_messages,
    is_true,
    job_of,
    label,
    name_of,
    one_line,
    phase,
)
from serve.cluster.snapshot import Snapshot

_START_REASONS = {"StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError"}
_OOM = "OOMKilled"
_LOG_LINES = 3
_DELETED = re.compile(
    r"Deleted (?:head|worker) Pod [^/]+/(?P<pod>\S+); Pod status: \w+;.*?"
    r"ExitCode:(?P<exitCode>\d+),Signal:\d+,Reason:(?P<reason>\w*),Message:(?P<message>.*?),StartedAt:",
    re.DOTALL,
)
_REDIS = re.compile(
    r".*(?:connect to redis|redis.*(?:unavailable|refused|timed out|NOAUTH|WRONGPASS)).*", re.I
)
_INGRESS_LOG = "/tmp/ray/session_latest/logs/serve/proxy_*.log"
_MORE_MEMORY = "raise resources.limits.memory of this group, or have fewer replicas a worker"


def find_cannot_start(snapshot: Snapshot) -> Iterator[Finding]:
    """A container's program cannot be started at all."""
    for pod, container in _containers(snapshot):
        for state in (container.waiting, container.terminated):
            if state.get("reason") in _START_REASONS:
                yield _cannot_start(name_of(pod), state.get("message", ""))
    for pod_name, ended in _replaced(snapshot):
        if ended["reason"] in _START_REASONS:
            yield _cannot_start(pod_name, ended["message"])


def _cannot_start(pod: str, message: str) -> Finding:
    why = one_line(message.rsplit("container process: ", 1)[-1])
    remedy = "use an image made by k8s/Dockerfile (image.repository, image.tag)"
    return finding(Kind.CANNOT_START, pod, f"the container cannot be started: {why}", remedy)


def find_out_of_memory(snapshot: Snapshot) -> Iterator[Finding]:
    """The kernel ended a container that took more memory than its limit."""
    for pod, container in _containers(snapshot):
        ended = container.terminated or container.last_terminated
        if ended.get("reason") == _OOM and not _is_retried(snapshot, pod):
            yield _out_of_memory(name_of(pod), container.name)
    for pod_name, ended in _replaced(snapshot):
        if ended["reason"] == _OOM:
            yield _out_of_memory(pod_name, "ray")


def _out_of_memory(pod: str, container: str) -> Finding:
    problem = f"the container '{container}' took more memory than its limit and was ended"
    return finding(Kind.OUT_OF_MEMORY, pod, problem, _MORE_MEMORY)


def find_crashes(snapshot: Snapshot) -> Iterator[Finding]:
    """A container ends with an error, again and again or for good; with its last log lines."""
    for pod, container in _containers(snapshot):
        ended = container.terminated or container.last_terminated
        is_down = not container.is_ready and bool(container.terminated or container.waiting)
        if is_down and _is_crash(ended) and not _is_retried(snapshot, pod):
            log = snapshot.logs.get((name_of(pod), container.name), "")
            yield _crash(name_of(pod), container.name, ended, log)
    for pod_name, ended in _replaced(snapshot):
        if _is_crash(ended):
            yield _crash(pod_name, "ray", ended, "")


def _is_crash(ended: Object) -> bool:
    return int(ended.get("exitCode", 0)) != 0 and ended.get("reason") not in {_OOM, *_START_REASONS}


def _crash(pod: str, container: str, ended: Object, log: str) -> Finding:
    last = [line.strip() for line in log.splitlines() if line.strip()][-_LOG_LINES:]
    words = one_line(" / ".join(last) or str(ended.get("message", "")) or "its log is gone")
    return finding(
        Kind.CRASH,
        pod,
        f"the container '{container}' ended with exit code {ended['exitCode']}: {words}",
        f"read its log: kubectl logs {pod} -c {container} --previous",
    )


def find_evictions(snapshot: Snapshot) -> Iterator[Finding]:
    """A node has evicted a pod."""
    for pod in snapshot.pods:
        status = pod.get("status", {})
        if status.get("reason") == "Evicted":
            problem = f"the node put the pod out: {one_line(status.get('message', ''))}"
            remedy = "lower scratchSize or free the node; requests equal to use are put out last"
            yield finding(Kind.EVICTED, name_of(pod), problem, remedy)


def find_failed_probes(snapshot: Snapshot) -> Iterator[Finding]:
    """A container runs and does not answer its probe.

    A worker without a replica is not ready by design, so a worker counts only once all
    applications run and the release still does not.
    """
    applications = snapshot.applications.values()
    runs = bool(applications) and all(each.status == "RUNNING" for each in applications)
    for pod in snapshot.pods:
        if phase(pod) != "Running" or is_true(pod, "Ready"):
            continue
        is_worker = label(pod, NODE_TYPE_LABEL) == "worker"
        if is_worker and (snapshot.is_ready or not runs):
            continue
        for message in event_messages(snapshot.events, pod, "Unhealthy")[-1:]:
            yield _failed_probe(name_of(pod), message, is_worker)


def _failed_probe(pod: str, message: str, is_worker: bool) -> Finding:
    said = one_line(message)
    remedy = f"read its log: kubectl logs {pod} --all-containers; it may lack CPU"
    if is_worker and said.endswith("failed: success"):  # KubeRay asks Ray, then the ingress
        said = "Ray answers its probe, and the ingress does not answer at /-/healthz"
        remedy = (
            f"read {_INGRESS_LOG} in {pod}; HAProxy may lack file descriptors "
            "(a limit of the node's container runtime) or CPU"
        )
    return finding(Kind.PROBE_FAILED, pod, f"the pod runs and is not ready: {said}", remedy)


def find_redis_unreachable(snapshot: Snapshot) -> Iterator[Finding]:
    """The head keeps its state in a Redis that does not answer."""
    for pod in snapshot.pods:
        if label(pod, NODE_TYPE_LABEL) != "head" or is_true(pod, "Ready"):
            continue
        for container in containers(pod):
            log = snapshot.logs.get((name_of(pod), container.name), "")
            said = _REDIS.findall(log)
            if said:
                yield finding(
                    Kind.REDIS_UNREACHABLE,
                    name_of(pod),
                    f"the head cannot use its Redis at {_redis_address(pod)}: {one_line(said[-1])}",
                    "check redis.address, redis.existingSecret and that Redis' pod is ready",
                )


def _redis_address(pod: Object) -> str:
    for spec in pod.get("spec", {}).get("containers", ()):
        for variable in spec.get("env", ()):
            if variable.get("name") == "RAY_REDIS_ADDRESS":
                return str(variable.get("value", ""))
    return "an unknown address"


def _containers(snapshot: Snapshot) -> Iterator[tuple[Object, Container]]:
    for pod in snapshot.pods:
        for container in containers(pod):
            yield pod, container


def _is_retried(snapshot: Snapshot, pod: Object) -> bool:
    """Tell whether a pod is of a Job that has a pod which runs, waits or succeeded."""
    job = job_of(pod)
    of_job = [other for other in snapshot.pods if job and job_of(other) == job]
    return any(phase(other) in ("Running", "Pending", "Succeeded") for other in of_job)


def _replaced(snapshot: Snapshot) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield name and end of pods that KubeRay replaced; none once the release is ready again."""
    if snapshot.is_ready:
        return
    for cluster in snapshot.clusters:
        messages = event_messages(snapshot.events, cluster, "DeletedHeadPod", "DeletedWorkerPod")
        for message in messages[-3:]:
            found = _DELETED.search(message)
            if found:
                yield found["pod"], found.groupdict()
