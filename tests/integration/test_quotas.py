"""Quotas of rows and seconds of compute on a platform of its own: two replicas, a pool, a pipeline.

With and without a real Redis, which is killed and comes back. What is let through is reckoned
against the time that passed here, so that no bound depends on the machine.
"""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import yaml

from serve.config.file import load
from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.integration.strata_up import strata_up
from tests.ports import free_port
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

ROWS = 40
_SMALL = {"num_cpus": 0.1}
_CLIENTS = 6


class Platform:
    """A platform of `strata up`, whose file a test changes and applies."""

    def __init__(self, path):
        self.path = path
        config = load(path)
        self.url = f"http://127.0.0.1:{config.http.port}"
        self.metrics_url = f"http://127.0.0.1:{config.ports.metrics}/metrics"

    def takes(self, *quotas, **counts):
        tree = yaml.safe_load(self.path.read_text())
        tree["access"] = {"quotas": list(quotas)}
        if counts:
            tree["access"]["counts"] = {"timeout_s": 5, **counts}
        self.path.write_text(yaml.safe_dump(tree))
        command = [sys.executable, "-m", "serve", "apply", "-c", self.path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def asks(self, model="twice", tenant="lab", rows=1, v1=False, session=requests):
        if v1:
            url, body = f"/v1/models/{model}:predict", {"instances": [1.0] * rows}
        else:
            data = {"name": "x", "datatype": "FP32", "shape": [rows], "data": [1.0] * rows}
            url, body = f"/v2/models/{model}/infer", {"inputs": [data]}
        headers = {"X-Tenant": tenant}
        return session.post(self.url + url, json=body, headers=headers, timeout=120)

    def flood(self, requests_each, meanwhile=lambda: None, **asked):
        """Return the statuses of many requests by clients side by side, and the seconds."""

        def client(_):
            with requests.Session() as session:
                return [
                    self.asks(session=session, v1=bool(n % 2), **asked).status_code
                    for n in range(requests_each)
                ]

        started = time.monotonic()
        with ThreadPoolExecutor(_CLIENTS + 1) as pool:
            others = pool.submit(meanwhile)
            statuses = [status for each in pool.map(client, range(_CLIENTS)) for status in each]
            others.result()
        return statuses, time.monotonic() - started

    def metric(self, name, **tags):
        page = requests.get(self.metrics_url, timeout=60).text
        lines = [line for line in page.splitlines() if line.startswith(name + "{")]
        wanted = [f'{tag}="{value}"' for tag, value in tags.items()]
        return sum(float(x.rpartition(" ")[2]) for x in lines if all(w in x for w in wanted))


@pytest.fixture(scope="module")
def platform(tmp_path_factory, graphs, eventually):
    folder = tmp_path_factory.mktemp("quotas")
    repository = Repository(str(folder / "models"), folder / "cache")
    for name in ("twice", "pooled"):
        publish(graphs / "twice", repository, name)
    two = {"min_replicas": 2, "max_replicas": 2}
    steps = [{"model": "twice"}, {"model": "pooled", "inputs": {"x": "twice.y"}}]
    tree = {
        "http": {"port": free_port()},
        "ports": {"metrics": free_port(), "dashboard": free_port()},
        "repository": {"root": "models", "try_engines": False},
        "tenants": {"names": ["lab"]},
        "models": [
            {"name": "twice", "ray_actor_options": _SMALL, "autoscaling": two},
            {"name": "pooled", "pool": "small"},
        ],
        "pools": [{"name": "small", "ray_actor_options": _SMALL}],
        "pipelines": [
            {
                "name": "both",
                "kind": "sequence",
                "placement": "deployment",
                "ray_actor_options": _SMALL,
                "steps": steps,
            }
        ],
    }
    path = folder / "strata.yaml"
    path.write_text(yaml.safe_dump(tree))
    with strata_up(path, eventually, end=signal.SIGINT):
        yield Platform(path)


def test_rows_are_kept_by_two_replicas_in_v1_and_v2(platform, eventually):
    assert "ratelimit" not in platform.asks().headers
    platform.takes({"tenant": "lab", "rows_per_s": ROWS, "model": "twice"})
    eventually(lambda: "ratelimit" in platform.asks().headers, timeout_s=120)
    statuses, seconds = platform.flood(60)
    assert set(statuses) <= {200, 429}
    assert 0 < statuses.count(200) <= ROWS * (seconds + 1)
    assert set(platform.flood(5, tenant="web")[0]) == {200}
    never = platform.asks(rows=ROWS + 1)
    assert never.status_code == 429
    assert "never let through" in never.json()["error"]
    assert "retry-after" not in never.headers
    whole = eventually(lambda: (answer := platform.asks(rows=ROWS)).ok and answer, timeout_s=60)
    assert whole.headers["ratelimit-policy"] == f'"model-rows";q={ROWS};w=1'
    labels = {"tenant": "lab", "reason": "rows_per_s", "model": "twice"}
    refusals = statuses.count(429) + 1
    eventually(lambda: platform.metric("ray_model_quota_refusals_total", **labels) >= refusals, 120)


def test_a_request_counts_for_the_model_that_it_asks_for_alone(platform, eventually):
    platform.takes(
        {"tenant": "lab", "model": "twice", "rows_per_s": 0},
        {"tenant": "web", "model": "pooled", "rows_per_s": 0},
        {"tenant": "ops", "model": "both", "rows_per_s": 0},
    )
    for tenant, model in (("lab", "twice"), ("web", "pooled"), ("ops", "both")):
        eventually(lambda: platform.asks(model, tenant).status_code == 429, 120)  # noqa: B023
        assert platform.asks(model, tenant, v1=True).status_code == 429
    for tenant in ("lab", "web"):
        assert platform.asks("both", tenant).status_code == 200


def test_seconds_of_compute_are_spent_in_all_replicas_together(platform, eventually):
    platform.takes({"tenant": "lab", "compute_s_per_day": 0.01})
    eventually(lambda: "ratelimit" in platform.asks().headers, timeout_s=120)
    eventually(lambda: set(platform.flood(4)[0]) == {429}, timeout_s=240)
    eventually(lambda: platform.asks("pooled").status_code == 429, timeout_s=60)
    refused = platform.asks()
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert "may use 0.01 s of compute a day" in refused.json()["error"]
    assert platform.asks(tenant="web").status_code == 200


def test_redis_counts_exactly_and_may_go_and_come_back(platform, tmp_path, eventually):
    quota = {"tenant": "lab", "model": "twice", "rows_per_s": ROWS}

    def left():
        return int(platform.asks().headers["ratelimit"].split(";")[1].removeprefix("r="))

    with RedisServer(tmp_path) as redis:
        platform.takes(quota, redis=redis.url)
        # A replica's part would be half of it.
        eventually(lambda: left() > ROWS / 2, timeout_s=120)
        statuses, seconds = platform.flood(60)
        assert set(statuses) <= {200, 429}
        assert 0 < statuses.count(200) <= ROWS * (seconds + 1)

        statuses, seconds = platform.flood(60, meanwhile=redis.kill)
        assert set(statuses) <= {200, 429}
        # Each replica begins with its part anew.
        assert 0 < statuses.count(200) <= ROWS * (seconds + 2)
        eventually(lambda: platform.metric("ray_model_quota_uncounted_total"), timeout_s=120)

        platform.takes(quota, redis=redis.url, when_uncounted="refuse")
        eventually(lambda: platform.asks().status_code == 503, timeout_s=120)
        # The other replica may take the change a moment later.
        eventually(lambda: set(platform.flood(4)[0]) == {503}, timeout_s=120)
        refused = platform.asks()
        assert refused.headers["retry-after"] == "1"
        assert "cannot be counted now" in refused.json()["error"]
        assert platform.asks(v1=True).status_code == 503
        assert platform.asks(tenant="web").status_code == 200
        redis.start()
        eventually(lambda: set(platform.flood(2)[0]) <= {200, 429}, timeout_s=120)


def test_without_quotas_nothing_is_told_any_more(platform, eventually):
    platform.takes()
    eventually(lambda: "ratelimit" not in platform.asks().headers, timeout_s=120)
    assert set(platform.flood(20)[0]) == {200}
