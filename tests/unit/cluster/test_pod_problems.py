"""Pods that cannot be placed or supplied: image, room on nodes, volumes, Secrets."""

import pytest

from serve.cluster.diagnosis import find_problems
from serve.cluster.findings import Kind
from tests.unit.cluster.findings import first, only
from tests.unit.cluster.releases import captured, event, pod, snapshot


@pytest.mark.parametrize(
    ("name", "kind", "said", "remedy"),
    [
        ("image-pull", Kind.IMAGE_PULL, "strata:0.1.0 cannot be pulled: ", "image.tag"),
        ("no-memory", Kind.NO_MEMORY, "no node has 400Gi memory free", "resources.requests.memory"),
        ("no-gpu", Kind.NO_GPU, "no node has a free nvidia.com/gpu: 0/1 nodes", "GPU node"),
        ("missing-secret", Kind.MISSING_SECRET, 'secret "missing" not found', "Secret 'missing'"),
        (
            "missing-config-map",
            Kind.MISSING_CONFIG_MAP,
            'configmap "missing-config" not found',
            "ConfigMap 'missing-config'",
        ),
        ("missing-claim", Kind.MISSING_VOLUME, "'nothing' does not exist", "existingClaim"),
    ],
)
def test_what_went_wrong_on_a_real_cluster_is_found(name, kind, said, remedy):
    found = first(captured(name), kind)
    assert said in found.problem
    assert remedy in found.remedy


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
    found = only(snapshot(all_pods=[_pending(message)]))
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
    found = only(snapshot(all_pods=[waiting], claims=[claim], events=events))
    assert found.kind is Kind.VOLUME_UNBOUND
    assert 'storageclass "fast" not found' in found.problem
    assert "ReadWriteMany" in found.remedy


def test_a_claim_that_waits_for_its_first_pod_is_no_problem():
    claim = {"metadata": {"name": "strata-repository"}, "status": {"phase": "Pending"}}
    assert find_problems(snapshot(claims=[claim])) == []
