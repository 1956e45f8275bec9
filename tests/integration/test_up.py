"""`strata up` as a service manager runs it, with Ray's Python proxy instead of HAProxy."""

import subprocess
import sys

import pytest
import requests
import yaml
from bench.peers.processes import command_of, descendants

from serve.deploy.ray_api import RayServeApi
from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.integration.strata_up import strata_up
from tests.ports import free_port
from tests.processes import has_ended

pytestmark = pytest.mark.integration


@pytest.fixture
def config(tmp_path, graphs):
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    for name in ("twice", "pooled"):
        publish(graphs / "twice", repository, name)
    path = tmp_path / "strata.yaml"
    small = {"num_cpus": 0.1}
    tree = {
        "http": {"port": free_port(), "haproxy": False},
        "ports": {"metrics": free_port(), "dashboard": free_port()},
        "repository": {"root": "models", "poll_interval_s": 0.5, "try_engines": False},
        "models": [
            *({"name": name, "ray_actor_options": small} for name in ("twice", "high")),
            *({"name": name, "pool": "p"} for name in ("pooled", "late")),
        ],
        "pools": [{"name": "p", "ray_actor_options": small}],
        "pipelines": [
            {
                "name": "both",
                "kind": "sequence",
                "steps": [{"model": "twice"}, {"model": "high", "inputs": {"x": "twice.y"}}],
                "ray_actor_options": small,
            }
        ],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def _require_answers(url, name, body):
    answer = requests.post(f"{url}/v2/models/{name}/infer", json=body, timeout=30)
    assert answer.json()["outputs"][0]["data"] == [6.0]
    rows = {"instances": [3.0]}
    answer = requests.post(f"{url}/v1/models/{name}:predict", json=rows, timeout=30)
    assert answer.json() == {"predictions": [6.0]}


def _require_no_path_of_pools(url, body):
    answer = requests.post(f"{url}/v2/pools/p/models/pooled/infer", json=body, timeout=30)
    assert answer.status_code == 404


def _require_no_pages_of_rays_dashboard(config):
    """They are processes of their own; what `strata apply` asks has to be there without them."""
    url = f"http://127.0.0.1:{yaml.safe_load(config.read_text())['ports']['dashboard']}"
    api = RayServeApi(url)
    assert "twice" in api.states()
    assert api.nodes()
    assert api._request("GET", url=f"{url}/nodes?view=summary").status_code == 404


def test_up_serves_what_is_there_adds_what_comes_and_ends_everything_when_told_to(
    config, graphs, eventually
):
    with strata_up(config, eventually) as up:
        url = f"http://127.0.0.1:{yaml.safe_load(config.read_text())['http']['port']}"
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [3]}]}
        for name in ("twice", "pooled"):  # by replicas of its own, and by those of a pool
            _require_answers(url, name, body)
        _require_no_path_of_pools(url, body)
        replica = _forked_replica_of("twice", up.pid)
        _require_no_pages_of_rays_dashboard(config)
        answer = requests.post(f"{url}/v2/models/both/infer", json=body, timeout=30)
        assert answer.status_code == 503
        assert "waits for its first version" in answer.json()["error"]
        assert requests.get(f"{url}/v2/health/ready", timeout=30).json() == {"ready": True}
        for name in ("high", "late"):
            publish(graphs / "high", Repository(str(config.parent / "models"), config), name)
        eventually(lambda: "All of it answers" in up.said(), timeout_s=600)
        for name in ("high", "late", "both"):
            assert f"{name} answers, " in up.said()
            answer = requests.post(f"{url}/v2/models/{name}/infer", json=body, timeout=30)
            assert answer.status_code == 200, answer.text
        assert _applied(config) == [
            *("both: unchanged", "high: unchanged", "late: unchanged", "pool-p: unchanged"),
            *("pooled: unchanged", "twice: unchanged"),
            "the platform runs as configured",
        ]
        assert _replica_of("twice", up.pid) == replica, "what ran is not touched"
        started = {each.pid for each in descendants(up.pid)}
        assert started
    eventually(lambda: all(map(has_ended, started)))


def _applied(config):
    """Return the lines that `strata apply` prints."""
    command = [sys.executable, "-m", "serve", "apply", "-c", config]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _replica_of(model, parent):
    """Return the processes that are replicas of a model, by Ray's names, with their parents."""
    name = f"ServeReplica:{model}:"
    found = descendants(parent)
    return {each.pid: each.parent for each in found if name in command_of(each.pid)}


def _forked_replica_of(model, parent):
    """Return the process of a model's one replica, which the fork server has started."""
    replica = _replica_of(model, parent)
    (server,) = replica.values()
    assert "worker_server" in command_of(server)
    return replica
