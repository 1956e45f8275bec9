"""A snapshot tells what belongs to its release from what only stands beside it."""

from serve.cluster.snapshot import is_of_release
from tests.unit.cluster.releases import pod, ray_cluster, ray_service, running, snapshot


def _other():
    """Return the RayService of another release in the namespace."""
    other = ray_service(running("gateway"))
    other["metadata"]["name"] = "other"
    other["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"
    return other


def test_the_release_s_own_rayservice_is_chosen():
    found = snapshot(ray_services=[_other(), ray_service(running("gateway"))])
    assert found.service["metadata"]["name"] == "strata"


def test_a_release_that_is_not_there_has_nothing():
    found = snapshot(ray_services=[_other()])
    assert (found.service, found.clusters, found.applications) == ({}, [], {})
    assert not found.is_ready


def test_an_object_is_of_a_release_by_its_label_or_by_its_name():
    labelled = {"metadata": {"name": "a", "labels": {"app.kubernetes.io/instance": "strata"}}}
    assert is_of_release(labelled, "strata")
    assert is_of_release(labelled, "a")
    assert not is_of_release(labelled, "other")


def test_both_clusters_count_while_one_takes_over_from_the_other():
    coming, foreign = ray_cluster(), ray_cluster()
    coming["metadata"]["name"] = "strata-coming"
    foreign["metadata"]["labels"]["ray.io/originated-from-cr-name"] = "other"
    found = snapshot(ray_clusters=[ray_cluster(), coming, foreign])
    names = [cluster["metadata"]["name"] for cluster in found.clusters]
    assert names == ["strata-abcde", "strata-coming"]


def test_pods_are_ray_s_and_those_of_the_release_s_jobs():
    job, foreign = pod("strata-demo"), pod("other-head")
    job["metadata"]["labels"] = {"app.kubernetes.io/instance": "strata"}
    foreign["metadata"]["labels"]["ray.io/cluster"] = "other-abcde"
    found = snapshot(all_pods=[pod("strata-head"), job, foreign])
    assert [each["metadata"]["name"] for each in found.pods] == ["strata-head", "strata-demo"]


def test_a_coming_cluster_s_applications_stand_for_those_that_it_will_replace():
    service = ray_service(running("gateway", "digits"))
    deploying = {"status": "DEPLOYING", "message": "", "serveDeploymentStatuses": None}
    coming = {"applicationStatuses": {"digits": deploying}}
    service["status"]["pendingServiceStatus"] = coming
    states = snapshot(service).applications
    assert {name: state.status for name, state in states.items()} == {
        "gateway": "RUNNING",
        "digits": "DEPLOYING",
    }
