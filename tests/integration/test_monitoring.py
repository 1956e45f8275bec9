"""A real Prometheus scrapes the running platform: what dashboards and rules ask for is there.

Its rules are those of the chart, evaluated every few seconds and without the alerts' waiting times;
what these are, promtool shows (tests/rules).
"""

import json
import os
import re
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
import yaml
from bench import demo
from dashboards.query import Prometheus, Series, expressions

from serve.config.schema import Ports
from serve.deploy.monitoring import DASHBOARDS, RULES, Monitoring
from serve.telemetry.metrics import METRICS, exported_names
from tests.integration.conftest import Served
from tests.ports import free_port

pytestmark = pytest.mark.integration

# Only a machine with a GPU, Ray's autoscaler and kube-state-metrics export these.
_ELSEWHERE = re.compile(r"ray_node_(gpu|gram)\w*|ray_cluster_(pending|failed)_nodes|kube_\w+")
# What must be empty as long as nothing is wrong.
_NOTHING_WRONG = {"What is wrong now"}
_NAME = re.compile(r"\b(?:(?:ray|haproxy|kube)_\w+|(?:model|component):[\w:]+)")
# A scrape may last as long as its interval. Ray's page of twenty replicas takes a busy machine more
# than a second, and where every other scrape fails, gauges are stale although rates have values.
_INTERVAL_S = 5
_NUMBER = {"name": "x", "datatype": "FP32", "shape": [1]}


def _panels() -> set[tuple[str, str, str]]:
    """Return the dashboard, the panel and the expression of everything that a dashboard asks."""
    return {
        (path.stem, title, expr)
        for path in DASHBOARDS.glob("*.json")
        for title, expr in expressions(json.loads(path.read_text()), {})
    }


def _rules() -> list[dict]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture(scope="module")
def metered(served: Served) -> Iterator[Served]:
    """The platform with a quota that replicas keep, without which nothing counts what is above."""
    quotas = [{"tenant": "metered", "rows_per_s": 1}]
    served.apply(lambda tree: tree.update(access={"quotas": quotas}))
    yield served
    served.apply(lambda tree: tree.pop("access"))


@pytest.fixture(scope="module")
def prometheus(
    metered: Served, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    script = pytestconfig.rootpath / "scripts" / "prometheus"
    found = subprocess.run([script], capture_output=True, text=True, check=True)
    tree = yaml.safe_load(RULES.read_text())
    for group in tree["groups"]:
        group["interval"] = "1s"
        for rule in group["rules"]:
            rule.pop("for", None)
    rules = tmp_path_factory.mktemp("rules") / "rules.yaml"
    rules.write_text(yaml.safe_dump(tree))
    ports = Ports(
        metrics=metered.platform.config.ports.metrics,
        dashboard=metered.platform.config.ports.dashboard,
        prometheus=free_port(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{found.stdout.strip()}:{os.environ['PATH']}")
        with Monitoring(ports, rules) as watch:
            watch.start(metered.platform.haproxy_metrics_port, scrape_interval_s=_INTERVAL_S)
            yield Prometheus(watch.url)


def _ask(served: Served, model: str, tensor: dict, **headers: str) -> requests.Response:
    body = {"inputs": [tensor]}
    return requests.post(served.infer_url(model), json=body, headers=headers, timeout=120)


def _load(served: Served) -> None:
    """Call every model and pipeline once, right and wrong, as a tenant and as none."""
    numbers = {**_NUMBER, "data": [60.0]}
    image = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0.0] * 784}
    many = {**_NUMBER, "shape": [64], "data": list(range(0, 640, 10))}
    for pipeline in served.platform.config.pipelines:
        assert _ask(served, pipeline.name, numbers).ok
    for model in ("low", "high", "pooled"):
        assert _ask(served, model, numbers, **{"x-tenant": "blue"}).ok
    assert _ask(served, "twice", many).ok
    for model in ("digits", "digits-h5"):
        assert _ask(served, model, image).ok
    assert _ask(served, "text", {**_NUMBER, "name": "text", "datatype": "BYTES", "data": ["a"]}).ok
    assert _ask(served, "busy", {**_NUMBER, "name": "steps", "datatype": "INT32", "data": [1]}).ok
    calc = {"inputs": {"zeta": [[1.0, 2.0]], "alpha": [1]}}
    assert requests.post(f"{served.url}/v1/models/calc:predict", json=calc, timeout=30).ok
    assert _ask(served, "digits", numbers).status_code == 400
    assert _ask(served, "nobody", numbers).status_code == 404


def _now(prometheus: Prometheus, expr: str) -> list[Series]:
    return prometheus.at(expr, time.time())


def _names(prometheus: Prometheus) -> set[str]:
    answer = requests.get(f"{prometheus.url}/api/v1/label/__name__/values", timeout=30)
    return set(answer.json()["data"])


def test_every_panel_of_every_dashboard_shows_something(served, prometheus, eventually):
    empty = {panel for panel in _panels() if panel[1] not in _NOTHING_WRONG}
    assert len(empty) > 50

    def all_shown():
        _load(served)
        empty.difference_update([panel for panel in empty if _now(prometheus, panel[-1])])
        return not empty

    try:
        eventually(all_shown, timeout_s=240)
    except AssertionError:
        scrapes = _now(prometheus, "max by (job) (max_over_time(scrape_duration_seconds[2m]))")
        pytest.fail(f"no data, scrapes {scrapes}: " + "\n".join(map(str, sorted(empty))))


def test_every_metric_of_ours_is_exported(served, prometheus, eventually):
    declared = {exported_names(name)[0] for name in METRICS}
    eventually(lambda: _load(served) or declared <= _names(prometheus), timeout_s=180)


def test_every_name_in_rules_and_dashboards_is_somebodys(served, prometheus, eventually):
    texts = [rule["expr"] for rule in _rules()] + [expr for *_, expr in _panels()]
    used = {name for text in texts for name in _NAME.findall(text)}
    used = {name for name in used if not _ELSEWHERE.fullmatch(name)}
    missing = set(used)

    def none_missing():
        _load(served)
        missing.intersection_update(used - _names(prometheus))
        return not missing

    try:
        eventually(none_missing, timeout_s=180)
    except AssertionError:
        pytest.fail(f"nobody exports {sorted(missing)}")


def test_every_rule_is_evaluated_and_every_recorded_one_has_values(served, prometheus, eventually):
    def groups():
        answer = requests.get(f"{prometheus.url}/api/v1/rules", timeout=30)
        return [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]

    # Each group begins at a moment of its own.
    eventually(lambda: all(rule["health"] != "unknown" for rule in groups()))
    rules = groups()
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    assert len(rules) == len(_rules())
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    eventually(lambda: _load(served) or recorded <= _names(prometheus), timeout_s=180)


def _firing(prometheus: Prometheus, alert: str) -> set[str]:
    expr = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    return {series.labels["model"] for series in _now(prometheus, expr)}


def test_a_model_that_fails_burns_its_error_budget_and_no_other_does(
    served, prometheus, eventually
):
    def fails():
        assert _ask(served, "high", {**_NUMBER, "data": [89.0]}).status_code == 500
        return "high" in _firing(prometheus, "ModelErrorBudgetBurn")

    eventually(fails, timeout_s=180)
    assert _firing(prometheus, "ModelErrorBudgetBurn") == {"high"}


def test_a_model_that_is_slow_burns_its_latency_budget_and_no_other_does(
    served, prometheus, eventually
):
    slow = {**_NUMBER, "name": "steps", "datatype": "INT32", "data": [400]}

    def is_slow():
        assert _ask(served, "busy", slow).ok
        return "busy" in _firing(prometheus, "ModelLatencyBudgetBurn")

    eventually(is_slow, timeout_s=180)
    assert _firing(prometheus, "ModelLatencyBudgetBurn") == {"busy"}


def test_requests_that_haproxy_itself_fails_are_counted_and_told(served, prometheus, eventually):
    lost = 'model:lost_requests:rate5m{model="calc"} > 0'
    failing = 'model:request_errors:ratio_rate5m{model="calc"} > 0'

    def is_told():
        assert _ask(served, "calc", {**_NUMBER, "data": [1.0]}).status_code >= 500
        return "calc" in _firing(prometheus, "ModelEdgeErrors")

    with _broken_off(served, "calc"):
        eventually(is_told, timeout_s=180)
    assert _now(prometheus, lost)
    assert _now(prometheus, failing)
    assert "low" not in _firing(prometheus, "ModelEdgeErrors")
    assert _ask(served, "calc", {**_NUMBER, "data": [1.0]}).status_code == 400


@contextmanager
def _broken_off(served: Served, model: str) -> Iterator[None]:
    """Have HAProxy reach, in place of a model's replica, something that closes each connection."""
    heading, line = _haproxy(served, f"show servers state http-{model}").splitlines()[1:3]
    state = dict(zip(heading.removeprefix("# ").split(), line.split(), strict=True))
    server = f"http-{model}/{state['srv_name']}"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Closes) as other:
        threading.Thread(target=other.serve_forever).start()
        address = f"set server {server} addr {state['srv_addr']} port"
        _haproxy(served, f"disable health {server}")  # it would not be asked any more
        _haproxy(served, f"{address} {other.server_address[1]}")
        try:
            yield
        finally:
            _haproxy(served, f"{address} {state['srv_port']}")
            _haproxy(served, f"enable health {server}")
            other.shutdown()


class _Closes(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)


def _haproxy(served: Served, command: str) -> str:
    """Return what HAProxy says to a command of its administrator."""
    (path,) = served.platform._folder.glob("*/admin.sock")
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rw") as file:
        connection.connect(str(path))
        file.write(f"{command}\n")
        file.flush()
        return file.read()


def test_a_tenant_that_nobody_knows_makes_no_series_of_its_own(served, prometheus, eventually):
    for number in range(5):
        headers = {"x-tenant": f"stranger-{number}"}
        assert _ask(served, "low", {**_NUMBER, "data": [1.0]}, **headers).ok
    expr = 'sum by (tenant) (ray_model_requests_total{model="low"})'

    def tenants():
        return {series.labels["tenant"] for series in _now(prometheus, expr)}

    eventually(lambda: "other" in tenants(), timeout_s=180)
    assert tenants() <= {"none", "other", "blue"}


def test_the_platform_serves_on_when_prometheus_goes(served, prometheus):
    ports = Ports(metrics=served.platform.config.ports.metrics, prometheus=free_port())
    with Monitoring(ports) as watch:
        watch.start(None)
        watch._processes["Prometheus"].kill()
        watch._processes["Prometheus"].wait()
        assert _ask(served, "low", {**_NUMBER, "data": [1.0]}).ok
        assert watch.ended() == ["Prometheus"]


def test_the_demo_traffic_reaches_every_model_and_is_answered(served, prometheus, capsys):
    demo.bench(url=served.url, seconds=3.0, clients=2, pause=0.0)
    told = capsys.readouterr().out
    assert re.fullmatch(r"answers: 200 \d+", told.strip().splitlines()[-1]), told
