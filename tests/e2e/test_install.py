import numpy as np
import pytest
import requests

from tests.e2e.cluster import Release, eventually
from tests.e2e.models import fetch

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def test_a_release_is_installed_from_nothing_and_passes_its_own_test(release: Release):
    assert len(release.ready("head")) == 1
    # helm ends when the models answer; a second worker may still be on its way
    eventually(lambda: len(release.ready("worker")) == 2, timeout_s=300)
    status = {name: told["status"] for name, told in release.applications().items()}
    assert status == {"gateway": "RUNNING", "digits": "RUNNING"}
    assert "Succeeded" in release.helm("test", release.name, "--timeout", "300s")


def test_answers_equal_those_of_the_network_in_process(
    release: Release, pictures: np.ndarray, tmp_path
):
    import keras

    fetch(release, "digits", 1, tmp_path)
    network = keras.models.load_model(tmp_path / "model.h5", compile=False)
    wanted = network.predict(pictures, verbose=0)
    rows = {"datatype": "FP32", "shape": pictures.shape, "data": pictures.ravel().tolist()}
    v2 = requests.post(
        f"{release.url()}/v2/models/digits/infer",
        json={"inputs": [{"name": "image", **rows}]},
        timeout=60,
    ).json()
    np.testing.assert_allclose(
        np.reshape(v2["outputs"][0]["data"], v2["outputs"][0]["shape"]), wanted, atol=1e-4
    )
    body = {"instances": pictures.tolist()}
    v1 = requests.post(f"{release.url()}/v1/models/digits:predict", json=body, timeout=60)
    np.testing.assert_allclose(v1.json()["predictions"], wanted, atol=1e-4)
    # Where HAProxy sends V1 to is nobody else's.
    inside = f"{release.url()}/v2/models/digits/v1:predict"
    answer = requests.post(inside, json=body, timeout=60)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})


def test_every_pod_is_admitted_by_the_restricted_standard(release: Release):
    labels = release.get("namespace", release.namespace)[0]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    roots = {
        (pod["metadata"]["name"], container["name"])
        for pod in release.get("pods")
        for container in pod["spec"]["containers"]
        if not container["securityContext"].get("readOnlyRootFilesystem")
        and pod["metadata"]["name"] != "publisher"
    }
    assert roots == set()
