import pytest
import requests

from tests.e2e.cluster import Release, eventually
from tests.e2e.load import Call
from tests.e2e.models import publish

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

TWICE = {
    "name": "twice",
    "ray_actor_options": {"num_cpus": 0.1},
    "version_policy": {"all": True},
    "version_labels": {"stable": 1},
    "graceful_shutdown_timeout_s": 30,
}


def times(release: Release, path: str) -> float:
    """Return what a model makes of a one."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}
    answer = requests.post(f"{release.url()}{path}", json={"inputs": [tensor]}, timeout=60)
    return answer.json()["outputs"][0]["data"][0] if answer.ok else answer.status_code


def who(release: Release, model: str) -> set[str]:
    return {replica["actor_id"] for replica in release.replicas(model)}


def test_a_model_is_added_and_a_label_moved_under_load(
    publisher: Release, graphs, digits_call, load_of
):
    release = publisher
    publish(release, graphs / "twice", "twice")
    publish(release, graphs / "thrice", "twice")
    before = who(release, "digits")
    cluster = release.head()
    digits = digits_call("/v2/models/digits/infer"), digits_call("/v1/models/digits:predict")
    with load_of(*digits) as load:
        eventually(load.so_many_more(50), timeout_s=60)
        models = release.values["models"]
        release.apply(models=[*models, TWICE])
        stable = "/v2/models/twice/labels/stable/infer"
        eventually(lambda: times(release, stable) == 2.0, timeout_s=60)
    assert load.failures == []
    # HAProxy was reloaded for the new model, and has what Strata adds: V1 is not the gateway's.
    inside = requests.get(f"{release.url()}/v2/models/twice/v1", timeout=60)
    assert inside.status_code == 404
    answer = requests.get(f"{release.url()}/v1/models/twice", timeout=60)
    assert answer.json()["name"] == "twice"
    assert answer.headers["X-Request-Id"]

    added = who(release, "twice")
    one = Call(
        "/v2/models/twice/infer",
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]},
        lambda answer: answer["outputs"][0]["data"][0] in (2.0, 3.0),
    )
    with load_of(*digits, one) as load:
        release.apply(models=[*models, {**TWICE, "version_labels": {"stable": 2}}])
        eventually(lambda: times(release, stable) == 3.0, timeout_s=60)
        eventually(load.so_many_more(50), timeout_s=60)
    assert load.failures == []

    assert who(release, "digits") == before
    assert who(release, "twice") == added
    assert release.head() == cluster


GROWING = {
    "name": "growing",
    "ray_actor_options": {"num_cpus": 0.1},
    "autoscaling": {"min_replicas": 2, "max_replicas": 2},
    "graceful_shutdown_timeout_s": 30,
}
_FACTORS = {"1": 2.0, "2": 3.0}


def growing_call(*x: float) -> Call:
    """Return a request whose answer is right if it is that of the version which it names."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(x)], "data": x}

    def is_right(answer):
        factor = _FACTORS[answer["model_version"]]
        return answer["outputs"][0]["data"] == [factor * value for value in x]

    return Call("/v2/models/growing/infer", {"inputs": [tensor]}, is_right)


def test_a_version_published_under_load_takes_over_without_a_wrong_answer(
    publisher: Release, graphs, load_of
):
    release = publisher
    publish(release, graphs / "twice", "growing")
    before = release.values["models"]
    release.apply(models=[*before, GROWING])
    infer = "/v2/models/growing/infer"
    eventually(lambda: times(release, infer) == 2.0, timeout_s=60)
    replicas = who(release, "growing")
    assert len(replicas) == 2
    # Requests of one row and of several, so that they share batches; and over V1.
    calls = [growing_call(*range(first, first + rows)) for first, rows in ((1, 1), (5, 3), (9, 7))]
    instances = {"instances": [1.0, 4.0]}
    v1 = Call(
        "/v1/models/growing:predict",
        instances,
        lambda answer: answer["predictions"] in ([2.0, 8.0], [3.0, 12.0]),
    )
    with load_of(*calls, v1, pause_s=0.02) as load:
        eventually(load.so_many_more(100), timeout_s=60)
        publish(release, graphs / "thrice", "growing")
        # Each of the replicas finds it on its own; then no answer is the old version's any more.
        eventually(lambda: {times(release, infer) for _ in range(20)} == {3.0}, timeout_s=180)
        eventually(load.so_many_more(100), timeout_s=60)
    assert load.failures == []
    assert who(release, "growing") == replicas
    release.apply(models=before)
