import pytest

from tests.e2e.cluster import Release, eventually
from tests.e2e.test_faults import carries_on

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_answers_go_on_while_the_head_is_gone_and_it_comes_back(
    release: Release, digits_call, load_of, record_property
):
    head = release.head()
    workers = release.ready("worker")
    replicas = {replica["actor_id"] for replica in release.replicas("digits")}
    paths = ("/v2/models/digits/infer", "/v1/models/digits:predict")
    with load_of(*map(digits_call, paths)) as load:
        carries_on(load)
        release.kubectl("delete", "pod", head, "--grace-period=0", "--force")
        eventually(lambda: release.ready("head") - {head}, timeout_s=300)
        eventually(
            lambda: {app["status"] for app in release.applications().values()} == {"RUNNING"},
            timeout_s=180,
        )
        carries_on(load)
    assert load.failures == []
    assert release.ready("worker") == workers
    assert {replica["actor_id"] for replica in release.replicas("digits")} == replicas
