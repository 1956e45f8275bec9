"""All checks together: nothing of a release that serves, causes first, and how far a start is."""

import re

from serve.cluster.diagnosis import CHECKS, find_problems
from serve.cluster.findings import Kind
from tests.unit.cluster.findings import only
from tests.unit.cluster.releases import (
    captured,
    captured_applications,
    pod,
    ray_service,
    running,
    snapshot,
)


def test_a_release_that_serves_has_no_findings():
    assert find_problems(snapshot()) == []


def test_causes_come_before_their_effects():
    states = {**running("gateway"), **captured_applications("absent")}
    service = ray_service(states, ready=False, names=tuple(states))
    pull = {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}
    pods = [pod("strata-worker", "worker", False, state=pull, phase="Pending")]
    operator = pod("kuberay-operator-1", ready=False)
    found = find_problems(snapshot(service, operator_pods=[operator], all_pods=pods))
    assert [each.kind for each in found] == [
        Kind.OPERATOR_MISSING,
        Kind.IMAGE_PULL,
        Kind.MODEL_NOT_LOADED,
    ]


def test_a_release_that_starts_says_how_far_it_is():
    waiting = pod("strata-worker", "worker", ready=False, phase="Pending")
    waiting["spec"]["initContainers"] = [{"name": "wait-gcs-ready"}]
    running_init = {"name": "wait-gcs-ready", "ready": False, "state": {"running": {}}}
    waiting["status"]["initContainerStatuses"] = [running_init]
    waiting["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "PodInitializing"}}
    found = only(snapshot(ray_service({}, ready=False), all_pods=[waiting]))
    assert found.kind is Kind.STARTING
    assert "waits for digits, gateway (worker in wait-gcs-ready)" in found.problem


def test_a_release_whose_models_run_waits_for_its_endpoint():
    service = ray_service(running("gateway", "digits"), ready=False)
    found = only(snapshot(service, all_pods=[]))
    assert found.kind is Kind.STARTING
    assert "it has no endpoint that answers (no pods yet); KubeRay: said" in found.problem


def test_pods_of_other_releases_do_not_count():
    other = captured("image-pull").all_pods
    assert find_problems(snapshot(all_pods=[pod("strata-head"), *other])) == []


def test_every_check_is_asked_and_is_a_sentence_of_its_own():
    assert len(set(CHECKS)) == len(CHECKS)
    for check in CHECKS:
        assert re.match(r"find_\w+$", check.__name__)
        assert check.__doc__
