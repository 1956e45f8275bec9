import json
from urllib.parse import quote

import numpy as np
import pytest
import requests
from supply.locks import normalised

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


def test_the_autoscaler_alone_has_a_token_of_the_api_server(release: Release):
    """That it still scales is what test_scaling shows."""
    look = ("bash", "-c", "ls /var/run/secrets/kubernetes.io/serviceaccount 2> /dev/null || true")
    head = release.head()
    assert release.exec(head, *look, container="autoscaler").split() == ["ca.crt", "token"]
    for pod in (head, *release.ready("worker")):
        assert release.exec(pod, *look) == ""


def test_the_images_bill_of_materials_names_what_is_installed(release: Release):
    head = release.head()
    bill = json.loads(release.exec(head, "cat", "/usr/share/strata/sbom.cdx.json"))
    listed = {each["purl"].partition("?")[0] for each in bill["components"]}
    python = "from importlib.metadata import distributions as d; print(*{x.name for x in d()})"
    installed = {normalised(name) for name in release.exec(head, "python", "-c", python).split()}
    named = {purl.rpartition("@")[0] for purl in listed}
    assert {f"pkg:pypi/{name}" for name in installed - {"strata-serve"}} <= named
    debian = release.exec(head, "dpkg-query", "--show", "--showformat", "${Package}\\n").split()
    assert {f"pkg:deb/debian/{quote(name)}" for name in debian} <= named
