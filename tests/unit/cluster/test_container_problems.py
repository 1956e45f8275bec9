"""Containers that start and end, or run and do not become ready."""

from serve.cluster.diagnosis import find_problems
from serve.cluster.findings import Kind
from tests.unit.cluster.findings import first, only
from tests.unit.cluster.releases import (
    CLUSTER_UID,
    captured,
    event,
    pod,
    ray_service,
    running,
    snapshot,
)


def test_a_program_that_cannot_be_started_on_a_real_cluster_is_found():
    found = first(captured("cannot-start"), Kind.CANNOT_START)
    assert "stat /bin/bash: no such file" in found.problem
    assert "k8s/Dockerfile" in found.remedy


def test_a_container_that_took_too_much_memory_is_found_and_not_called_a_crash():
    killed = {"reason": "OOMKilled", "exitCode": 137}
    worker = pod("strata-worker", "worker", False, state={"terminated": killed})
    found = only(snapshot(all_pods=[worker]))
    assert found.kind is Kind.OUT_OF_MEMORY
    assert "resources.limits.memory" in found.remedy


def test_a_pod_that_kuberay_replaced_is_known_by_the_event():
    message = (
        "Deleted worker Pod models/strata-worker-1; Pod status: Failed; Pod restart policy: Never; "
        "Ray container terminated status: &ContainerStateTerminated{ExitCode:137,Signal:0,"
        "Reason:OOMKilled,Message:,StartedAt:2026-11-24 21:05:00 +0000 UTC,FinishedAt:x,}"
    )
    events = [event(CLUSTER_UID, "DeletedWorkerPod", message)]
    found = find_problems(snapshot(ray_service({}, ready=False), events=events))[0]
    assert (found.kind, found.subjects) == (Kind.OUT_OF_MEMORY, ("strata-worker-1",))
    assert find_problems(snapshot(events=events)) == [], "a release that serves has got over it"


def _crashed():
    ended = {"exitCode": 1, "reason": "Error"}
    back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}
    container = {"lastState": {"terminated": ended}, "restartCount": 4}
    return pod("strata-head", ready=False, state=back_off, container=container)


def test_a_crash_is_told_with_the_last_lines_of_its_log():
    logs = {("strata-head", "ray"): "much\nbefore\n\nImportError: no module named serve\nbye\n"}
    found = only(snapshot(all_pods=[_crashed()], logs=logs))
    assert found.kind is Kind.CRASH
    assert "exit code 1: before / ImportError: no module named serve / bye" in found.problem


def test_a_job_that_failed_once_and_then_did_its_work_is_no_problem():
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    tries = [
        pod("strata-demo-1", "", False, state=ended, phase="Failed"),
        pod("strata-demo-2", "", False, phase="Succeeded"),
    ]
    for each in tries:
        each["metadata"]["labels"]["batch.kubernetes.io/job-name"] = "strata-demo"
    assert find_problems(snapshot(all_pods=tries)) == []
    assert only(snapshot(all_pods=tries[:1])).kind is Kind.CRASH


def test_an_evicted_pod_is_found():
    said = "The node was low on resource: ephemeral-storage."
    evicted = pod("strata-worker", "worker", False, phase="Failed", reason="Evicted", message=said)
    found = only(snapshot(all_pods=[evicted]))
    assert found.kind is Kind.EVICTED
    assert "ephemeral-storage" in found.problem


def test_a_head_that_fails_its_probe_is_found():
    message = "Readiness probe failed: command timed out"
    events = [event("uid-strata-head", "Unhealthy", message)]
    found = only(snapshot(all_pods=[pod("strata-head", ready=False)], events=events))
    assert found.kind is Kind.PROBE_FAILED
    assert message in found.problem


def test_a_worker_without_a_replica_may_fail_its_probe():
    events = [event("uid-strata-worker", "Unhealthy", "Readiness probe failed: 503")]
    worker = pod("strata-worker", "worker", ready=False)
    assert find_problems(snapshot(all_pods=[worker], events=events)) == []
    service = ray_service(running("gateway", "digits"), ready=False)
    found = only(snapshot(service, all_pods=[worker], events=events))
    assert found.kind is Kind.PROBE_FAILED


def test_a_worker_whose_ingress_does_not_answer_is_told_from_one_without_ray():
    events = [event("uid-strata-worker", "Unhealthy", "Readiness probe failed: success\n")]
    service = ray_service(running("gateway", "digits"), ready=False)
    worker = pod("strata-worker", "worker", ready=False)
    found = only(snapshot(service, all_pods=[worker], events=events))
    assert "Ray answers its probe, and the ingress does not" in found.problem
    assert "file descriptors" in found.remedy


def test_a_redis_that_does_not_answer_is_found():
    head = _crashed()
    address = {"name": "RAY_REDIS_ADDRESS", "value": "strata-redis:6379"}
    head["spec"]["containers"][0]["env"] = [address]
    logs = {("strata-head", "ray"): "[gcs] redis_context.cc:478: Failed to connect to Redis.\n"}
    found = find_problems(snapshot(all_pods=[head], logs=logs))[0]
    assert found.kind is Kind.REDIS_UNREACHABLE
    assert "at strata-redis:6379" in found.problem


def test_an_end_without_a_reason_is_a_crash_too():
    worker = pod("strata-worker", "worker", False, state={"terminated": {"exitCode": 1}})
    found = first(snapshot(all_pods=[worker]), Kind.CRASH)
    assert "ended with exit code 1" in found.problem
