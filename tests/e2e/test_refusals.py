import pytest

from tests.e2e.cluster import WELL_S, CommandFailed, Release, eventually
from tests.e2e.models import spoil
from tests.e2e.test_faults import carries_on
from tests.e2e.test_upgrade import who

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

INFER = "/v2/models/digits/infer"
BROKEN = {"name": "broken", "ray_actor_options": {"num_cpus": 0.1}}


def test_a_model_that_does_not_load_is_told_and_harms_no_other(
    publisher: Release, digits_call, load_of
):
    release = publisher
    spoil(release, "broken")
    before, values = who(release, "digits"), release.values
    with load_of(digits_call(INFER)) as load:
        with pytest.raises(CommandFailed, match="strata-ready"):
            release.apply(
                models=[*values["models"], BROKEN], readiness={"timeoutSeconds": 60}, timeout_s=300
            )
        eventually(lambda: finds(release, "model-not-loaded", "broken"), timeout_s=180)
        assert who(release, "digits") == before
        release.kubectl("delete", "job", f"{release.name}-ready", "--ignore-not-found")
        release.apply()
        eventually(lambda: "broken" not in release.applications(), timeout_s=120)
    assert load.failures == []
    assert who(release, "digits") == before


def finds(release: Release, kind: str, whom: str) -> bool:
    return any(found == kind and whom in said for found, said in release.doctor())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"modells": []}, "modells"),
        ({"models": [{"name": "digits", "batching": {"max_batch_size": 0}}]}, "max_batch_size"),
        ({"models": [{"name": "digits", "ray_actor_options": {"num_gpus": 1}}]}, "no worker group"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_changes_nothing(release: Release, changed, said):
    revision = release.revision()
    with pytest.raises(CommandFailed, match=said):
        release.apply(timeout_s=60, **changed)
    assert release.revision() == revision


def test_a_missing_secret_is_told_and_the_running_cluster_serves_on(
    release: Release, digits_call, load_of
):
    head, values = release.head(), release.values
    with load_of(digits_call(INFER)) as load:
        missing = [{"secretRef": {"name": "nowhere"}}]
        release.apply(extraEnvFrom=missing)  # the running cluster answers, so helm is content
        eventually(lambda: finds(release, "missing-secret", "nowhere"), timeout_s=180)
        assert release.head() == head
        release.values = values
        release.apply()
        # KubeRay makes another cluster of the corrected values, though one of them is running.
        eventually(lambda: release.ready("head") - {head} == release.pod_names("head"), 600)
        carries_on(load)
    assert load.failures == []
    # What cleans up after the cluster that never ran lacks the Secret as well, for two minutes.
    eventually(release.is_well, timeout_s=WELL_S)
