"""HAProxy with Strata's lines in front of a platform; tests/unit/edge/haproxy try each line."""

import shutil
import uuid

import pytest
import requests

from serve.errors import ServeError
from serve.repository.publish import publish
from serve.repository.repository import Repository

pytestmark = pytest.mark.integration

_LETTER = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}
_SMALL = {"ray_actor_options": {"num_cpus": 0.1}}


def _ask(served, path, method="GET", **more):
    return requests.request(method, served.url + path, timeout=150, **more)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v1/models/text", "model_version_status"),
        ("/V1/Models/text/versions/1", "model_version_status"),
        ("/v1/models/text/metadata", "metadata"),
        ("//v1//models/./digits/../text", "model_version_status"),
    ],
)
def test_what_v1_asks_is_answered_and_nobody_else_gets_below_a_models_v1(served, path, key):
    session = requests.Session()
    request = requests.Request("GET", served.url).prepare()
    request.url = served.url + path  # which requests would write in its own way
    answer = session.send(request, timeout=60)
    assert key in answer.json(), answer.text
    inside = _ask(served, "/v2/models/text/v1")
    assert (inside.status_code, inside.json()) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("path", ["/v2/models/text", "/v1/models/text", "/v2", "/v2/health/live"])
def test_head_and_options_are_answered_where_get_is(served, path):
    got, head = _ask(served, path), _ask(served, path, "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    options = _ask(served, path, "OPTIONS")
    assert (options.status_code, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert _ask(served, path, "BREW").status_code == 405


@pytest.mark.parametrize("path", ["/v2/models/text", "/v1/models/text", "/v2", "/v2/models/no"])
def test_every_answer_has_an_id(served, path):
    assert uuid.UUID(_ask(served, path).headers["X-Request-Id"])
    mine = _ask(served, path, headers={"X-Request-Id": "mine"})
    assert mine.headers["X-Request-Id"] == "mine"


def test_after_reloads_a_model_that_sleeps_is_woken_and_one_that_failed_says_why(served, graphs):
    """HAProxy is reloaded for each model that comes, wakes or goes."""
    repository = Repository(str(served.repository), served.repository)
    for name in ("sleeper", "broken"):
        publish(graphs / "text", repository, name)
    weights = served.repository / "broken" / "1" / "saved_model.pb"
    weights.write_bytes(b"\xff" * len(weights.read_bytes()))
    sleeper = {"name": "sleeper", "autoscaling": {"min_replicas": 0, "max_replicas": 1}, **_SMALL}
    with pytest.raises(ServeError, match="broken"):
        served.apply(lambda tree: tree["models"].extend([sleeper, {"name": "broken", **_SMALL}]))
    try:
        assert _ask(served, "/v2/models/sleeper/v1").status_code == 404
        body = {"inputs": [_LETTER]}
        woken = _ask(served, "/v2/models/sleeper/infer", "POST", json=body)
        assert woken.json()["outputs"][1]["data"] == ["A"], woken.text
        woken = _ask(served, "/v1/models/sleeper:predict", "POST", json={"instances": ["b"]})
        assert woken.json()["predictions"][0]["upper"] == "B"

        for path in ("/v2/models/broken/infer", "/v1/models/broken:predict"):
            failed = _ask(served, path, "POST", json=body)
            assert (failed.status_code, failed.headers["Retry-After"]) == (503, "1")
            assert "model 'broken' is DEPLOY_FAILED: " in failed.json()["error"]
    finally:
        served.apply(lambda tree: tree["models"].__delitem__(slice(-2, None)))
        shutil.rmtree(served.repository / "broken")
