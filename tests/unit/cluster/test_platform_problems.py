"""Before there are pods: namespace, operator, release, and pods that are refused."""

from dataclasses import replace

import pytest

from serve.cluster.diagnosis import find_problems
from serve.cluster.findings import Kind
from tests.unit.cluster.findings import first, only
from tests.unit.cluster.releases import (
    SERVICE_UID,
    captured,
    event,
    pod,
    ray_service,
    running,
    snapshot,
)


@pytest.mark.parametrize(
    ("name", "kind", "said", "remedy"),
    [
        ("quota", Kind.QUOTA_EXCEEDED, "requested: requests.memory=2560Mi", "larger quota"),
        ("pod-security", Kind.POD_SECURITY, "allowPrivilegeEscalation != false", "securityContext"),
        ("service-account", Kind.PODS_REFUSED, "ServiceAccount nobody is not found", "account"),
    ],
)
def test_what_went_wrong_on_a_real_cluster_is_found(name, kind, said, remedy):
    found = first(captured(name), kind)
    assert said in found.problem
    assert remedy in found.remedy


def test_a_cluster_without_kuberay_is_said_to_be_so():
    found = only(snapshot(has_crd=False, ray_services=[], ray_clusters=[], all_pods=[]))
    assert found.kind is Kind.OPERATOR_MISSING
    assert "KubeRay is not installed" in found.problem


def test_an_operator_that_does_not_run_is_found():
    operator = pod("kuberay-operator-1", ready=False, state={"waiting": {"reason": "ErrImagePull"}})
    found = only(snapshot(operator_pods=[operator]))
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
    assert only(snapshot(service, ray_clusters=[], all_pods=[])).kind is Kind.STARTING


def test_a_missing_release_lists_those_that_are_there():
    other = ray_service(running("gateway"))
    other["metadata"]["namespace"] = "elsewhere"
    release = snapshot(elsewhere=[other])
    found = only(replace(release, release="nothing"))
    assert found.kind is Kind.RELEASE_MISSING
    assert "(there: strata; elsewhere: strata in elsewhere)" in found.problem


def test_a_missing_namespace_is_the_one_thing_said():
    found = only(snapshot(has_namespace=False, ray_services=[], ray_clusters=[], all_pods=[]))
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
