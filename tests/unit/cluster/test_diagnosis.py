"""Each thing that can be wrong with a release is found, with its cause and nothing else."""

import re
from pathlib import Path

import pytest

from serve.cluster.diagnosis import CHECKS, find_problems
from serve.cluster.findings import Kind
from tests.unit.cluster.releases import (
    CLUSTER_UID,
    SERVICE_UID,
    captured,
    captured_applications,
    event,
    pod,
    ray_service,
    running,
    snapshot,
)

_OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
_PAGE = _OPERATIONS.split("\n## Why is it not ready?\n")[1].split("\n## ")[0]


def _only(release):
    """Return the one finding of a release."""
    (found,) = find_problems(release)
    return found


def test_a_release_that_serves_has_no_findings():
    assert find_problems(snapshot()) == []


@pytest.mark.parametrize(
    ("name", "kind", "said", "remedy"),
    [
        ("image-pull", Kind.IMAGE_PULL, "strata:0.1.0 cannot be pulled: ", "image.tag"),
        ("no-memory", Kind.NO_MEMORY, "no node has 400Gi memory free", "resources.requests.memory"),
        ("no-gpu", Kind.NO_GPU, "no node has a free nvidia.com/gpu: 0/1 nodes", "GPU node"),
        ("quota", Kind.QUOTA_EXCEEDED, "requested: requests.memory=2560Mi", "larger quota"),
        ("missing-secret", Kind.MISSING_SECRET, 'secret "missing" not found', "Secret 'missing'"),
        (
            "missing-config-map",
            Kind.MISSING_CONFIG_MAP,
            'configmap "missing-config" not found',
            "ConfigMap 'missing-config'",
        ),
        ("missing-claim", Kind.MISSING_VOLUME, "'nothing' does not exist", "existingClaim"),
        ("pod-security", Kind.POD_SECURITY, "allowPrivilegeEscalation != false", "securityContext"),
        ("service-account", Kind.PODS_REFUSED, "ServiceAccount nobody is not found", "account"),
        ("cannot-start", Kind.CANNOT_START, "stat /bin/bash: no such file", "k8s/Dockerfile"),
    ],
)
def test_what_went_wrong_on_a_real_cluster_is_found(name, kind, said, remedy):
    first = next(each for each in find_problems(captured(name)) if each.kind is kind)
    assert said in first.problem
    assert remedy in first.remedy


def test_pods_with_the_same_problem_share_a_finding():
    assert len(_only(captured("image-pull")).subjects) == 2


def test_a_cluster_without_kuberay_is_said_to_be_so():
    found = _only(snapshot(has_crd=False, ray_services=[], ray_clusters=[], all_pods=[]))
    assert found.kind is Kind.OPERATOR_MISSING
    assert "KubeRay is not installed" in found.problem


def test_an_operator_that_does_not_run_is_found():
    operator = pod("kuberay-operator-1", ready=False, state={"waiting": {"reason": "ErrImagePull"}})
    found = _only(snapshot(operator_pods=[operator]))
    assert found.kind is Kind.OPERATOR_MISSING
    assert "kuberay-operator-1 is not ready: ErrImagePull" in found.problem


def test_a_release_that_no_operator_takes_up_is_found():
    service = ray_service({}, ready=False)
    del service["status"]
    found = find_problems(snapshot(service, ray_clusters=[], all_pods=[]))[0]
    assert found.kind is Kind.OPERATOR_MISSING
    assert "nobody has taken up" in found.problem


def test_a_release_that_was_just_made_is_not_blamed_on_the_operator():
    service = ray_service({}, ready=False)
    service["metadata"]["creationTimestamp"] = "2026-11-24T21:29:50Z"
    del service["status"]
    assert _only(snapshot(service, ray_clusters=[], all_pods=[])).kind is Kind.STARTING


def test_a_missing_release_lists_those_that_are_there():
    other = ray_service(running("gateway"))
    other["metadata"]["namespace"] = "elsewhere"
    release = snapshot(elsewhere=[other])
    found = _only(_named(release, "nothing"))
    assert found.kind is Kind.RELEASE_MISSING
    assert "(there: strata; elsewhere: strata in elsewhere)" in found.problem


def _named(release, name):
    from dataclasses import replace

    return replace(release, release=name)


def test_a_missing_namespace_is_the_one_thing_said():
    found = _only(snapshot(has_namespace=False, ray_services=[], ray_clusters=[], all_pods=[]))
    assert found.kind is Kind.NAMESPACE_MISSING


def test_a_release_that_kuberay_refuses_is_found():
    refused = event(
        SERVICE_UID, "InvalidRayServiceSpec", "The RayService spec is invalid: too long"
    )
    found = find_problems(snapshot(ray_service({}, ready=False), events=[refused]))[0]
    assert found.kind is Kind.INVALID_RELEASE
    assert "too long" in found.problem


def test_a_release_that_kuberay_gave_up_must_be_made_anew():
    service = ray_service({}, ready=False)
    service["status"]["conditions"][0]["reason"] = "InitializingTimeout"
    found = find_problems(snapshot(service))[0]
    assert found.kind is Kind.INITIALIZING_TIMEOUT
    assert "helm uninstall" in found.remedy


def _pending(message):
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    conditions = [{**scheduled, "message": message}]
    return pod("strata-worker", "worker", False, phase="Pending", conditions=conditions)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu. preemption: none", Kind.NO_CPU),
        ("0/3 nodes are available: 3 Insufficient nvidia.com/mig-1g.10gb.", Kind.NO_GPU),
        (
            "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient nvidia.com/gpu.",
            Kind.NO_GPU,
        ),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {gpu: yes}.", Kind.NO_NODE),
        ("0/3 nodes are available: 3 node(s) had volume node affinity conflict.", Kind.NO_NODE),
    ],
)
def test_a_pod_that_no_node_takes_says_what_is_missing(message, kind):
    found = _only(snapshot(all_pods=[_pending(message)]))
    assert found.kind is kind
    assert message.split(".")[0] in found.problem


def test_a_claim_without_a_volume_is_found():
    waiting = _pending("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    volume = {"name": "repository", "persistentVolumeClaim": {"claimName": "strata-repository"}}
    waiting["spec"]["volumes"] = [volume]
    claim = {
        "metadata": {"name": "strata-repository", "uid": "uid-claim"},
        "spec": {"storageClassName": "fast", "accessModes": ["ReadWriteMany"]},
        "status": {"phase": "Pending"},
    }
    events = [event("uid-claim", "ProvisioningFailed", 'storageclass "fast" not found')]
    found = _only(snapshot(all_pods=[waiting], claims=[claim], events=events))
    assert found.kind is Kind.VOLUME_UNBOUND
    assert 'storageclass "fast" not found' in found.problem
    assert "ReadWriteMany" in found.remedy


def test_a_claim_that_waits_for_its_first_pod_is_no_problem():
    claim = {"metadata": {"name": "strata-repository"}, "status": {"phase": "Pending"}}
    assert find_problems(snapshot(claims=[claim])) == []


def test_a_container_that_took_too_much_memory_is_found_and_not_called_a_crash():
    killed = {"reason": "OOMKilled", "exitCode": 137}
    worker = pod("strata-worker", "worker", False, state={"terminated": killed})
    found = _only(snapshot(all_pods=[worker]))
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
    found = _only(snapshot(all_pods=[_crashed()], logs=logs))
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
    assert _only(snapshot(all_pods=tries[:1])).kind is Kind.CRASH


def test_an_evicted_pod_is_found():
    said = "The node was low on resource: ephemeral-storage."
    evicted = pod("strata-worker", "worker", False, phase="Failed", reason="Evicted", message=said)
    found = _only(snapshot(all_pods=[evicted]))
    assert found.kind is Kind.EVICTED
    assert "ephemeral-storage" in found.problem


def test_a_head_that_fails_its_probe_is_found():
    message = "Readiness probe failed: command timed out"
    events = [event("uid-strata-head", "Unhealthy", message)]
    found = _only(snapshot(all_pods=[pod("strata-head", ready=False)], events=events))
    assert found.kind is Kind.PROBE_FAILED
    assert message in found.problem


def test_a_worker_without_a_replica_may_fail_its_probe():
    events = [event("uid-strata-worker", "Unhealthy", "Readiness probe failed: 503")]
    worker = pod("strata-worker", "worker", ready=False)
    assert find_problems(snapshot(all_pods=[worker], events=events)) == []
    service = ray_service(running("gateway", "digits"), ready=False)
    found = _only(snapshot(service, all_pods=[worker], events=events))
    assert found.kind is Kind.PROBE_FAILED


def test_a_worker_whose_ingress_does_not_answer_is_told_from_one_without_ray():
    events = [event("uid-strata-worker", "Unhealthy", "Readiness probe failed: success\n")]
    service = ray_service(running("gateway", "digits"), ready=False)
    worker = pod("strata-worker", "worker", ready=False)
    found = _only(snapshot(service, all_pods=[worker], events=events))
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


def _with(*names, **states):
    applications = {**running("gateway"), **captured_applications(*names), **states}
    return ray_service(applications, ready=False, names=tuple(applications))


def test_a_model_that_does_not_load_speaks_for_itself():
    found = _only(snapshot(_with("absent")))
    assert (found.kind, found.subjects) == (Kind.MODEL_NOT_LOADED, ("absent",))
    assert found.problem == (
        "the model does not load: model 'absent' has no version to serve: "
        "its repository folder holds no complete version; publish one"
    )


def test_a_wrong_key_is_named_by_its_path():
    found = _only(snapshot(_with("misspelt")))
    assert (found.kind, found.subjects) == (Kind.WRONG_KEY, ("misspelt",))
    assert found.problem == "batching.max_batch_sise: extra inputs are not permitted"


def test_replicas_without_room_say_what_they_need():
    found = _only(snapshot(_with("hungry")))
    assert found.kind is Kind.NO_ROOM_FOR_REPLICAS
    assert '"GPU": 1.0} and Ray\'s workers have {"CPU": 1.9}' in found.problem


def test_a_model_that_loads_for_long_is_found():
    said = "has 1 replicas that have taken more than 30s to initialize.\nThis may be caused by"
    found = _only(snapshot(_with(digits={"status": "DEPLOYING", "message": said})))
    assert found.kind is Kind.MODEL_DEPLOYING


def test_a_model_that_became_unhealthy_is_found():
    state = {"status": "UNHEALTHY", "message": "The deployments {'model'} are UNHEALTHY."}
    assert _only(snapshot(_with(digits=state))).kind is Kind.MODEL_UNHEALTHY


def test_a_configuration_that_ray_serve_refuses_is_found_until_one_is_accepted():
    said = "Failed to update serve applications: err: UpdateDeployments fail: 400 Bad Request no"
    refused = event(SERVICE_UID, "FailedToUpdateServeApplications", said)
    found = _only(snapshot(events=[refused]))
    assert found.kind is Kind.CONFIG_REFUSED
    assert "400 Bad Request" in found.problem
    later = event(SERVICE_UID, "UpdatedServeApplications", "ok", "2026-11-24T21:11:00Z")
    assert find_problems(snapshot(events=[refused, later])) == []


def test_a_head_that_does_not_answer_is_not_called_a_refusal():
    said = 'err: Put "http://head:8265/api/serve/applications/": context deadline exceeded'
    found = _only(snapshot(events=[event(SERVICE_UID, "FailedToUpdateServeApplications", said)]))
    assert found.kind is Kind.HEAD_UNREACHABLE
    assert "context deadline exceeded" in found.problem


def test_a_version_that_is_not_served_is_found_though_the_model_answers():
    entries = [
        {"name": "digits", "version": "3", "state": "READY"},
        {"name": "digits", "version": "4", "state": "UNAVAILABLE", "reason": "not whole"},
    ]
    found = _only(snapshot(index={"digits": entries}))
    assert found.kind is Kind.VERSION_NOT_SERVED
    assert found.problem == "version 4 is not served: not whole"


def test_a_release_that_starts_says_how_far_it_is():
    waiting = pod("strata-worker", "worker", ready=False, phase="Pending")
    waiting["spec"]["initContainers"] = [{"name": "wait-gcs-ready"}]
    running_init = {"name": "wait-gcs-ready", "ready": False, "state": {"running": {}}}
    waiting["status"]["initContainerStatuses"] = [running_init]
    waiting["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "PodInitializing"}}
    found = _only(snapshot(ray_service({}, ready=False), all_pods=[waiting]))
    assert found.kind is Kind.STARTING
    assert "waits for digits, gateway (worker in wait-gcs-ready)" in found.problem


def test_pods_of_other_releases_do_not_count():
    other = captured("image-pull").all_pods
    assert find_problems(snapshot(all_pods=[pod("strata-head"), *other])) == []


def test_every_check_is_asked_and_is_a_sentence_of_its_own():
    assert len(set(CHECKS)) == len(CHECKS)
    for check in CHECKS:
        assert re.match(r"find_\w+$", check.__name__)
        assert check.__doc__


@pytest.mark.parametrize("kind", Kind)
def test_every_finding_has_a_row_in_the_page(kind):
    assert f"| `{kind}` |" in _PAGE


def test_the_page_has_no_row_of_a_finding_that_is_gone():
    rows = re.findall(r"^\| `([a-z-]+)` \|", _PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(Kind)
