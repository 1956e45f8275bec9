"""Models that share a pool's replicas, on a platform of its own that `strata up` runs.

Every graph is served in a pool and, under another name, by replicas of its own: what both answer
must be the same.
"""

import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
import yaml
from bench.peers.processes import command_of, descendants
from tritonclient.http import InferenceServerClient, InferInput

from serve.deploy.ray_api import RayServeApi
from serve.edge.haproxy.access import Maps
from serve.edge.haproxy.admin_socket import AdminSocket
from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.e2e.load import Call, Load
from tests.integration.strata_up import strata_up
from tests.ports import free_port

pytestmark = pytest.mark.integration

_SMALL = {"num_cpus": 0.1}
_LONG_S = 600  # for many requests, one after the other, on a busy machine


def _numbers(*values):
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}]}


def _steps(*values):
    tensor = {"name": "steps", "datatype": "INT32", "shape": [len(values)], "data": values}
    return {"inputs": [tensor]}


@pytest.fixture(scope="module")
def pools(tmp_path_factory, graphs, eventually):
    """A platform with the pools `small`, and `tight`, into which none of its models fits."""
    folder = tmp_path_factory.mktemp("pools")
    repository = Repository(str(folder / "models"), folder / "cache")
    for name in ("twice", "text", "high", "busy"):
        publish(graphs / name, repository, name)
    for name in ("alone-twice", "spare"):
        publish(graphs / "twice", repository, name)
    publish(graphs / "text", repository, "alone-text")
    for name in ("a", "b", "c"):
        publish(graphs / "thrice", repository, name)
    tree = {
        "repository": {"root": "models", "poll_interval_s": 0.5, "try_engines": False},
        "http": {"port": free_port()},
        "ports": {"metrics": free_port(), "dashboard": free_port()},
        "models": [
            *({"name": name, "pool": "small"} for name in ("twice", "text", "high")),
            {
                "name": "busy",
                "pool": "small",
                "batching": {"max_batch_size": 1},
                "limits": {"request_timeout_s": _LONG_S},
            },
            *({"name": name, "pool": "tight"} for name in ("a", "b", "c")),
            *({"name": f"alone-{name}", "ray_actor_options": _SMALL} for name in ("twice", "text")),
        ],
        "pools": [
            {"name": "next", "ray_actor_options": _SMALL},
            {"name": "small", "ray_actor_options": _SMALL},
            {"name": "tight", "ray_actor_options": _SMALL, "max_memory_bytes": 1},
        ],
        "pipelines": [
            {
                "name": "of-the-pool",
                "kind": "sequence",
                "placement": "deployment",
                "steps": [{"model": "twice"}, {"model": "high", "inputs": {"x": "twice.y"}}],
                "ray_actor_options": _SMALL,
            }
        ],
    }
    path = folder / "strata.yaml"
    path.write_text(yaml.safe_dump(tree))
    with strata_up(path, eventually) as up:
        yield SimpleNamespace(
            path=path,
            url=f"http://127.0.0.1:{tree['http']['port']}",
            api=RayServeApi(f"http://127.0.0.1:{tree['ports']['dashboard']}"),
            repository=repository,
            models=folder / "models",
            pid=up.pid,
        )


def _apply(pools, change, code=0):
    """Change the file and apply it as the command does; return what it says."""
    tree = yaml.safe_load(pools.path.read_text())
    change(tree)
    pools.path.write_text(yaml.safe_dump(tree))
    return _strata(pools, "apply", code)


def _strata(pools, command, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "serve", command, "-c", pools.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def _replicas(pools):
    """Return the ids of the replicas that run, by application."""
    return {
        name: {each["replica_id"] for d in app["deployments"].values() for each in d["replicas"]}
        for name, app in pools.api.applications().items()
    }


def _infer(pools, model, body, **headers):
    url = f"{pools.url}/v2/models/{model}/infer"
    return requests.post(url, json=body, headers=headers, timeout=_LONG_S)


def _y(pools, model, *values):
    answer = _infer(pools, model, _numbers(*values))
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"]


def _index(pools):
    entries = requests.post(f"{pools.url}/v2/repository/index", json={}, timeout=60).json()
    return {entry["name"]: entry for entry in entries}


def _learned(pools):
    """Return the pool by model that this node's HAProxy has learned of.

    There are none while Ray starts another one, whose map begins empty.
    """
    for process in descendants(pools.pid):
        program, *arguments = command_of(process.pid).split() or [""]
        if program.endswith("/haproxy") and "-f" in arguments:
            config = Path(arguments[arguments.index("-f") + 1])
            with suppress(OSError), AdminSocket.of(config.read_text()) as socket:
                return socket.entries(Maps.beside(config).pools)
    return {}


def _require_learned(pools, eventually, **pool_of):
    """Ask for models until HAProxy has learned in which pools they are.

    It may have to be asked again: Ray starts it anew when replicas come and go, and its map is
    empty then.
    """

    def has_learned():
        for model in pool_of:
            answer = requests.get(f"{pools.url}/v2/models/{model}", timeout=60)
            assert answer.status_code == 200, answer.text
        return _learned(pools).items() >= pool_of.items()

    eventually(has_learned)


def test_a_model_in_a_pool_answers_what_it_answers_by_itself(pools, eventually):
    """By every protocol, to the bit; but for its name, and what says when it was asked."""
    values = np.array([1.5, -2.0, 3e8], np.float32)

    def binary(model):
        tensor = InferInput("x", [3], "FP32")
        tensor.set_data_from_numpy(values, binary_data=True)
        with InferenceServerClient(pools.url.removeprefix("http://")) as client:
            return client.infer(model, [tensor]).as_numpy("y").tobytes()

    def told(path, model, body=None):
        url = pools.url + path.format(model)
        answer = requests.request("POST" if body else "GET", url, json=body, timeout=60)
        return answer.status_code, answer.text.replace("alone-", "")

    for _ in range(2):  # through the gateway, and straight to the pool
        assert binary("twice") == binary("alone-twice") == (2 * values).tobytes()
        for path, name, body in [
            ("/v2/models/{}/infer", "twice", _numbers(1, 2)),
            ("/v2/models/{}/versions/1/infer", "twice", _numbers(1)),
            ("/v2/models/{}/versions/9/infer", "twice", _numbers(1)),
            ("/v2/models/{}/infer", "twice", {"inputs": []}),
            ("/v2/models/{}/teapot", "twice", {"a": 1}),
            ("/v1/models/{}:predict", "twice", {"instances": [1.0, 2.5]}),
            ("/v1/models/{}:predict", "text", {"instances": ["a", "äö"]}),
            ("/v1/models/{}:classify", "text", {"examples": []}),
            ("/v1/models/{}", "text", None),
            ("/v1/models/{}/metadata", "text", None),
            ("/v2/models/{}", "text", None),
            ("/v2/models/{}/ready", "text", None),
        ]:
            assert told(path, name, body) == told(path, f"alone-{name}", body), path

    _require_learned(pools, eventually, twice="small", text="small")
    assert "alone-twice" not in _learned(pools)


def test_a_pool_is_not_asked_by_a_path_or_header_of_a_client(pools, eventually):
    for path in ("", "/models/twice", "/models/twice/infer", "/twice/infer"):
        answer = requests.post(f"{pools.url}/v2/pools/small{path}", json=_numbers(1), timeout=60)
        assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    headers = {"x-strata-pool": "tight"}
    assert "x-strata-pool" not in _infer(pools, "twice", _numbers(1), **headers).headers
    assert _infer(pools, "nobody", _numbers(1), **headers).status_code == 404

    assert _y(pools, "twice", 1) == [2]
    _require_learned(pools, eventually, twice="small")
    assert "nobody" not in _learned(pools)


def test_a_pipeline_calls_models_in_a_pool(pools):
    answer = _infer(pools, "of-the-pool", _numbers(1.5)).json()
    assert answer["outputs"][0]["data"] == pytest.approx([3 / 4, 1 / 4, 0])


@pytest.fixture
def loaded(pools):
    """Clients ask a model of the pool `small` all the time, and none of them ever sees an error."""
    before = _replicas(pools)
    host, port = pools.url.removeprefix("http://").split(":")
    doubled = Call(
        "/v2/models/twice/infer", _numbers(4), lambda answer: answer["outputs"][0]["data"] == [8]
    )
    # Which leaves the commands some of the machine.
    with Load((host, int(port)), [doubled], pause_s=0.05) as load:
        yield
    assert load.failures == []
    assert load.answers.total() > 50
    assert _replicas(pools)["pool-small"] == before["pool-small"]


def _change(pools, name, code=0, **keys):
    """Have a model in the file with these keys, in place of the one of its name."""

    def change(tree):
        kept = [each for each in tree["models"] if each["name"] != name]
        tree["models"] = [*kept, *([{"name": name, **keys}] if keys else [])]

    return _apply(pools, change, code)


def test_a_model_comes_changes_moves_and_goes_beside_others_under_load(pools, loaded, eventually):
    said = _change(pools, "spare", pool="small")
    assert "spare: added" in said
    assert "twice: unchanged" in said
    assert _y(pools, "spare", 3) == [6]
    assert "spare: changed limits\n" in _change(
        pools, "spare", pool="small", limits={"max_body_bytes": 200}
    )
    assert _y(pools, "spare", 3) == [6]
    assert _infer(pools, "spare", _numbers(*range(90))).status_code == 413
    _change(pools, "spare", pool="next")
    assert [_y(pools, "spare", number) for number in (1, 2)] == [[2], [4]]
    _require_learned(pools, eventually, spare="next")
    rows = [line.split() for line in _strata(pools, "status").splitlines()]
    assert ["twice", "running", "1/1", "1", "-", "small"] in rows
    assert ["spare", "running", "1/1", "1", "-", "next"] in rows
    _change(pools, "spare")
    assert _infer(pools, "spare", _numbers(1)).status_code == 404


def test_a_model_that_cannot_be_loaded_concerns_no_other(pools, graphs, loaded):
    broken = pools.models / "broken" / "1"
    shutil.copytree(graphs / "twice", broken)
    weights = broken / "variables" / "variables.data-00000-of-00001"
    weights.write_bytes(b"\xff" * len(weights.read_bytes()))
    said = _change(pools, "broken", code=1, pool="small")
    assert "model 'broken': " in said
    assert "cannot be loaded" in said
    answer = _infer(pools, "broken", _numbers(1))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "version 1" in answer.json()["error"]
    assert _index(pools)["broken"]["state"] == "UNAVAILABLE"
    assert requests.get(f"{pools.url}/v2/health/ready", timeout=60).status_code == 503
    _change(pools, "broken")
    assert _infer(pools, "broken", _numbers(1)).status_code == 404
    assert requests.get(f"{pools.url}/v2/health/ready", timeout=60).status_code == 200


def test_a_model_that_is_flooded_leaves_the_others_their_turns(pools):
    work = _steps(300)
    assert _infer(pools, "busy", work).status_code == 200
    done = Counter()

    def flood(_):
        done[_infer(pools, "busy", work).status_code] += 1

    with ThreadPoolExecutor(24) as executor:
        flooding = [executor.submit(flood, number) for number in range(24)]
        while not done:
            time.sleep(0.001)
        before = done.total()
        assert _y(pools, "twice", 5) == [10]
        meanwhile = done.total() - before
        for each in flooding:
            each.result()
    assert done == {200: 24}
    assert meanwhile <= 8  # of those that came before it


def test_models_that_do_not_fit_are_unloaded_and_come_back_with_a_request(pools, eventually):
    (loaded,) = [name for name in "abc" if _index(pools)[name]["state"] == "READY"]
    first, second = [name for name in "abc" if name != loaded]
    assert "make room" in _index(pools)[first]["reason"]
    ready = requests.get(f"{pools.url}/v2/models/{first}/ready", timeout=60)
    assert (ready.status_code, _index(pools)[first]["state"]) == (200, "UNAVAILABLE")
    assert requests.get(f"{pools.url}/v2/health/ready", timeout=60).status_code == 200
    assert _y(pools, first, 2) == [6]  # which waits until the other one may go
    eventually(lambda: "make room" in _index(pools)[loaded].get("reason", ""))
    refused = _infer(pools, second, _numbers(2), **{"grpc-timeout": "3S"})
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert "no room for it" in refused.json()["error"]
    assert _y(pools, loaded, 2) == [6]
    assert sum(_index(pools)[name]["state"] == "READY" for name in "abc") == 1
