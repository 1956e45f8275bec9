import pytest

from tests.e2e.cluster import CommandFailed, Release, eventually
from tests.e2e.models import spoil
from tests.e2e.test_upgrade import who

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

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
        said = eventually(lambda: failure(release, "broken"), timeout_s=180)
        assert "broken" in said
        assert who(release, "digits") == before
        release.kubectl("delete", "job", f"{release.name}-ready", "--ignore-not-found")
        release.apply()
        eventually(lambda: "broken" not in release.applications(), timeout_s=120)
    assert load.failures == []
    assert who(release, "digits") == before


def failure(release: Release, model: str) -> str:
    """Return what Ray Serve says of a model that does not run."""
    told = release.applications().get(model, {"status": "", "message": "", "deployments": {}})
    messages = [each["message"] for each in told["deployments"].values()]
    return " ".join([told["message"], *messages]) if told["status"] == "DEPLOY_FAILED" else ""


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"modells": []}, "modells"),
        ({"models": [{"name": "digits", "batching": {"max_batch_size": 0}}]}, "max_batch_size"),
        ({"models": [{"name": "digits", "ray_actor_options": {"num_gpus": 1}}]}, "no worker group"),
    ],
)
def test_a_value_that_cannot_be_is_refused_and_changes_nothing(release: Release, changed, said):
    revision = release.helm("status", release.name, "--output", "json")
    with pytest.raises(CommandFailed, match=said):
        release.apply(timeout_s=60, **changed)
    assert release.helm("status", release.name, "--output", "json") == revision


def test_a_missing_secret_is_told_and_the_running_cluster_serves_on(
    release: Release, digits_call, load_of
):
    head, values = release.head(), release.values
    with load_of(digits_call(INFER)) as load:
        missing = [{"secretRef": {"name": "nowhere"}}]
        with pytest.raises(CommandFailed):
            release.apply(extraEnvFrom=missing, readiness={"enabled": False}, timeout_s=60)
        reasons = lambda: "nowhere" in told(release)  # noqa: E731
        eventually(reasons, timeout_s=120)
        assert release.head() == head
        release.apply()
        eventually(lambda: len(release.ready("head")) == 1, timeout_s=180)
    assert load.failures == []
    assert release.head() == head
    assert release.values == values


def told(release: Release) -> str:
    """Return why containers of the release wait."""
    states = [
        status["state"].get("waiting", {}).get("message", "")
        for component in ("head", "worker")
        for pod in release.pods(component)
        for status in pod["status"].get("containerStatuses", [])
    ]
    return " ".join(states)
