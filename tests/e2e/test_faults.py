import pytest

from tests.e2e.cluster import Release, eventually
from tests.e2e.load import Load

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

INFER = "/v2/models/digits/infer"


def is_whole(release: Release, workers: int, replicas: int) -> bool:
    return len(release.ready("worker")) == workers and len(release.replicas("digits")) == replicas


def carries_on(load: Load) -> None:
    """Wait for so many answers that a failure would be among them."""
    eventually(load.so_many_more(100), timeout_s=120)


def test_a_killed_replica_costs_no_request_that_can_be_sent_anew(
    release: Release, digits_call, load_of, record_property
):
    eventually(lambda: is_whole(release, 2, 2), timeout_s=300)
    killed = release.replicas("digits")[0]
    pods = {pod["status"]["podIP"]: pod["metadata"]["name"] for pod in release.pods("worker")}
    with load_of(digits_call(INFER)) as load:
        carries_on(load)
        release.exec(pods[killed["node_ip"]], "bash", "-c", f"kill -KILL {killed['pid']}")
        carries_on(load)
        others = lambda: {r["actor_id"] for r in release.replicas("digits")}  # noqa: E731
        eventually(lambda: len(others() - {killed["actor_id"]}) == 2, timeout_s=180)
        carries_on(load)
    record_property("answers that broke off", load.broken_off)
    assert load.broken_off <= load.clients / 2  # those that were at this replica
    assert len(load.failures) == load.broken_off, load.failures


def test_a_deleted_worker_costs_no_request(release: Release, digits_call, load_of):
    eventually(lambda: is_whole(release, 2, 2), timeout_s=300)
    deleted = next(iter(release.ready("worker")))
    with load_of(digits_call(INFER), digits_call("/v1/models/digits:predict")) as load:
        carries_on(load)
        release.kubectl("delete", "pod", deleted, "--wait=false")
        eventually(lambda: deleted not in release.pod_names("worker"), timeout_s=200)
        eventually(lambda: is_whole(release, 2, 2), timeout_s=300)
        carries_on(load)
    assert load.failures == []


def test_a_worker_that_vanishes_costs_no_request(release: Release, digits_call, load_of):
    """Without a grace period, as when a node's power fails."""
    eventually(lambda: is_whole(release, 2, 2), timeout_s=300)
    deleted = next(iter(release.ready("worker")))
    with load_of(digits_call(INFER)) as load:
        carries_on(load)
        release.kubectl("delete", "pod", deleted, "--grace-period=0", "--force")
        eventually(lambda: is_whole(release, 2, 2), timeout_s=300)
        carries_on(load)
    assert load.failures == []
