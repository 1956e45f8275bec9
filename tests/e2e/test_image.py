import pytest

from tests.e2e import cluster
from tests.e2e.cluster import Release, eventually
from tests.e2e.test_faults import carries_on

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def test_a_new_image_takes_over_without_a_failed_request(release: Release, digits_call, load_of):
    head = release.head()
    repository, _, tag = cluster.NEXT_IMAGE.rpartition(":")
    paths = ("/v2/models/digits/infer", "/v1/models/digits:predict")
    with load_of(*map(digits_call, paths)) as load:
        carries_on(load)
        release.apply(image={"repository": repository, "tag": tag})
        eventually(lambda: release.head() != head, timeout_s=600)
        eventually(lambda: head not in release.pod_names("head"), timeout_s=400)
        eventually(lambda: len(release.pod_names("worker")) == 2, timeout_s=300)
        carries_on(load)
    assert load.failures == []
    images = {
        container["image"]
        for component in ("head", "worker")
        for pod in release.pods(component)
        for container in pod["spec"]["containers"]
    }
    assert images == {cluster.NEXT_IMAGE}
