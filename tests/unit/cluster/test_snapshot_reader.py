"""A release is read as far as the credentials allow."""

import pytest

from serve.cluster.errors import ClusterForbidden, ReleaseNotFound
from serve.cluster.snapshot_reader import choose_release, read_snapshot, read_versions
from tests.unit.cluster.fakes import FakeConnection
from tests.unit.cluster.releases import pod, ray_service, running


def test_the_only_release_needs_no_name():
    assert choose_release(FakeConnection(), "models", None) == "strata"


def test_several_releases_must_be_told_apart():
    connection = FakeConnection()
    second = ray_service(running("gateway"))
    second["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"
    connection.services.append(second)
    with pytest.raises(ReleaseNotFound, match="name one: other, strata"):
        choose_release(connection, "models", None)


def test_a_namespace_without_a_release_is_an_error_unless_there_is_something_to_say_of_it():
    with pytest.raises(ReleaseNotFound, match="has no release"):
        choose_release(FakeConnection(), "empty", None)
    assert choose_release(FakeConnection(), "empty", None, otherwise="strata") == "strata"


def test_what_may_not_be_read_is_noted_and_the_rest_is_there():
    forbidden = ("operator_pods", "events", "claims")
    snapshot = read_snapshot(FakeConnection(forbidden=forbidden), "models", "strata")
    assert snapshot.operator_pods is None
    assert len(snapshot.pods) == 2
    assert [line.split(":")[0] for line in snapshot.unreadable] == ["operator", "events", "claims"]


def test_what_is_needed_is_an_error_if_it_is_forbidden():
    with pytest.raises(ClusterForbidden):
        read_snapshot(FakeConnection(forbidden=["pods"]), "models", "strata")


def test_a_cluster_without_kuberay_is_a_snapshot_too():
    connection = FakeConnection()
    connection.has_crd = False
    assert not read_snapshot(connection, "models", "strata").has_crd


def test_logs_are_read_of_containers_that_ended_and_of_their_predecessors():
    connection = FakeConnection()
    ended = {"lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}, "restartCount": 2}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    connection.found_pods = [
        pod("strata-head", ready=False, state=waiting, container=ended),
        pod("strata-worker", "worker"),
    ]
    snapshot = read_snapshot(connection, "models", "strata")
    assert snapshot.logs == {("strata-head", "ray"): "last words\n"}
    assert ("log", "strata-head", "ray", True) in connection.calls


def test_a_release_is_found_by_the_name_of_its_rayservice():
    connection = FakeConnection()
    connection.services[0]["metadata"]["name"] = "prod-strata"
    connection.services[0]["metadata"]["labels"]["app.kubernetes.io/instance"] = "prod"
    connection.clusters[0]["metadata"]["labels"]["ray.io/originated-from-cr-name"] = "prod-strata"
    for name in ("prod", "prod-strata"):
        snapshot = read_snapshot(connection, "models", name)
        assert snapshot.release == "prod"
        assert len(snapshot.pods) == 2


def test_versions_are_asked_of_a_release_that_serves_alone():
    for ready in (True, False):
        connection = FakeConnection(ray_service(running("gateway"), ready=ready))
        snapshot = read_snapshot(connection, "models", "strata")
        read_versions(connection, snapshot)
        assert bool(snapshot.index) is ready
