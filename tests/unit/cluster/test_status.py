"""What a release serves: as configured, and as far as it can be asked."""

import pytest

from serve.cluster.errors import ReleaseNotFound
from serve.cluster.status import PodState, read_status
from tests.unit.cluster.fakes import FakeConnection
from tests.unit.cluster.releases import ray_service


def test_models_have_state_policy_labels_versions_and_replicas():
    connection = FakeConnection()
    found = read_status(connection, "models", None)
    state = found.states["digits"]
    assert (state.status, state.running_replicas, state.target_replicas) == ("RUNNING", 1, 2)
    assert found.policies == {"digits": {"latest": 1}}
    assert found.labels == {"digits": {"stable": 3}}
    assert [entry["version"] for entry in found.index["digits"]] == ["3"]
    assert found.is_ready
    assert found.unknown == []


def test_the_gateway_and_the_dashboard_are_asked_through_their_services():
    connection = FakeConnection()
    read_status(connection, "models", None)
    assert ("post_to_service", "strata:8000", "v2/repository/index") in connection.calls
    asked = ("get_from_service", "strata-abcde-head-svc:8265", "api/serve/applications/", "token")
    assert asked in connection.calls
    assert ("secret", "strata-abcde") in connection.calls, "KubeRay names it after its RayCluster"


def test_pods_are_told_in_words():
    head = read_status(FakeConnection(), "models", None).pods[0]
    assert head == PodState("strata-head", "headgroup", "1/1", "Running", 0)


def test_what_may_not_be_asked_is_unknown_and_says_why():
    connection = FakeConnection(forbidden=["post_to_service", "secret"])
    found = read_status(connection, "models", None)
    assert not found.has_replicas
    assert found.index == {}
    assert found.unknown == [
        "replicas that run are not known: not allowed: secret",
        "versions that run are not known: not allowed: post_to_service",
    ]


def test_models_of_a_release_that_has_not_started_are_listed():
    service = ray_service({}, ready=False)
    service["status"] = {}
    found = read_status(FakeConnection(service), "models", "strata")
    assert {state.status for state in found.states.values()} == {"NOT_STARTED"}
    assert found.unknown == []


def test_an_unknown_release_is_an_error():
    with pytest.raises(ReleaseNotFound, match="see strata doctor nothing"):
        read_status(FakeConnection(), "models", "nothing")
