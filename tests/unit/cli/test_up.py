"""`strata up`: what it says while a platform starts, and that it ends it.

The platform is a fake, since Ray takes many seconds; tests/integration/test_up.py has a real one.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from serve.cli.up import _Retries, example_call
from serve.deploy.application_status import ApplicationState


class FakePlatform:
    """A LocalPlatform whose applications go through `states`; then `at_end` is called."""

    states: list = []  # noqa: RUF012  # set by the tests
    at_end = staticmethod(lambda: None)
    calls: list = []  # noqa: RUF012

    failed: dict = {}  # noqa: RUF012
    api = None

    haproxy_metrics_port = 9101

    def __init__(self, config):
        self.config = config

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.calls.append("stop")

    def start(self, report):
        self.calls.append("start")
        report("starting Ray")

    def settle(self, timeout_s, progress):
        for state in self.states:
            progress({"digits": ApplicationState("digits", state, "", 1, 1)})
        self.at_end()
        return self.failed

    def require_ingress(self, failed):
        self.calls.append("ingress")


class FakeMonitoring:
    """A Prometheus that ends by itself once the platform is ready; no Grafana."""

    url, grafana_url = "http://127.0.0.1:9090", None

    def __init__(self, ports):
        self._ended = ["Prometheus"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        FakePlatform.calls.append("stop watching")

    def start(self, haproxy_port):
        FakePlatform.calls.append(f"watch {haproxy_port}")

    def ended(self):
        _ctrl_c()
        return [self._ended.pop()] if self._ended else []


def _ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def local(monkeypatch):
    """The platform that `strata up` starts in these tests."""
    monkeypatch.setattr("serve.deploy.local_platform.LocalPlatform", FakePlatform)
    monkeypatch.setattr("serve.deploy.monitoring.Monitoring", FakeMonitoring)
    monkeypatch.setattr("serve.cli.up._CHECK_PERIOD_S", 0.01)
    monkeypatch.setattr(FakePlatform, "states", ["DEPLOYING", "DEPLOYING", "RUNNING"])
    monkeypatch.setattr(FakePlatform, "at_end", staticmethod(_ctrl_c))
    FakePlatform.calls.clear()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield FakePlatform
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _tensor(datatype, *shape):
    return {"name": "x", "datatype": datatype, "shape": list(shape)}


def test_up_says_where_everything_is_and_stops_when_told_to(strata, platform, local, ingress):
    ingress.pages["GET /v2/models/digits"] = {"inputs": [_tensor("FP32", -1)], "outputs": []}
    code, printed, error = strata("up", "-c", platform(models=[{"name": "digits"}]))
    assert code == 0
    url = f"http://127.0.0.1:{ingress.port}"
    assert f"Strata is ready at {url}" in printed
    assert "metrics    http://127.0.0.1:9100/metrics" in printed
    assert f"curl -s {url}/v2/models/digits/infer" in printed
    assert error.splitlines() == [
        "starting Ray",
        "digits: deploying",
        "digits: running",
        "stopping",
    ]
    assert local.calls == ["start", "ingress", "stop"]


def test_ctrl_c_while_it_starts_ends_what_was_started(strata, platform, local, monkeypatch):
    monkeypatch.setattr(local, "start", lambda self, report: _ctrl_c())
    code, printed, _ = strata("up", "-c", platform())
    assert (code, printed) == (130, "")
    assert local.calls == ["stop"]


@pytest.mark.timeout(60)  # it ends once it was told of the end of Prometheus
def test_what_watches_may_end_and_the_platform_goes_on(strata, platform, local, monkeypatch):
    monkeypatch.setattr(local, "at_end", staticmethod(lambda: None))
    code, printed, error = strata("up", "--watch", "-c", platform())
    assert code == 0
    assert "prometheus http://127.0.0.1:9090/alerts" in printed
    assert "grafana    not installed" in printed
    assert "Prometheus has ended; the platform goes on without it" in error
    assert local.calls == ["start", "watch 9101", "ingress", "stop", "stop watching"]


def test_a_pipeline_that_does_not_fit_is_refused_before_anything_starts(refused, platform, local):
    steps = [{"model": "absent"}, {"model": "absent", "name": "again"}]
    config = platform(pipelines=[{"name": "twice", "kind": "sequence", "steps": steps}])
    assert "pipelines[twice]: there is no model" in refused("up", "-c", config)
    assert local.calls == []


class FakeApi:
    """Ray Serve's REST API, whose applications have these states; remembers what was restarted."""

    def __init__(self, **statuses):
        self.statuses, self.restarted = statuses, []

    def states(self):
        return {
            name: ApplicationState(name, status, "no version", int(status == "RUNNING"), 1)
            for name, status in self.statuses.items()
        }

    def restart(self, names):
        self.restarted.append(sorted(names))


def test_a_model_that_cannot_be_loaded_is_told_and_the_others_serve(
    strata, platform, local, ingress, monkeypatch
):
    ingress.pages["GET /v2/models/parity"] = {"inputs": [_tensor("FP32", -1)], "outputs": []}
    monkeypatch.setattr(local, "failed", {"digits": "no version [1]"})
    monkeypatch.setattr(local, "api", FakeApi(digits="DEPLOY_FAILED", parity="RUNNING"))
    config = platform(models=[{"name": "digits"}, {"name": "parity"}])
    code, printed, error = strata("up", "-c", config)
    assert code == 0
    assert "digits is not served, and tried again: no version [1]" in error
    assert "Strata is ready" in printed
    assert "/v2/models/parity/infer" in printed


def test_what_failed_is_started_again_less_and_less_often_until_it_runs(capsys):
    api = FakeApi(digits="DEPLOY_FAILED", parity="RUNNING")
    retries = _Retries(api, {"digits": "no version", "gone": "no version"})
    start = time.monotonic()
    for second in range(100):
        retries.look(start + second)
    assert api.restarted == [["digits"]] * 3, "after 10, 30 and 70 s"
    api.statuses["digits"] = "RUNNING"
    for second in range(100, 1000):
        retries.look(start + second)
    assert len(api.restarted) == 3
    assert "digits is served now" in capsys.readouterr().err


def test_what_failed_after_a_later_change_is_started_again_too(capsys):
    api = FakeApi(digits="RUNNING")
    retries = _Retries(api, {})
    start = time.monotonic()
    for second in range(600):
        retries.look(start + second)
    assert api.restarted == []
    api.statuses["late"] = "DEPLOY_FAILED"
    for second in range(600, 606):
        retries.look(start + second)
    assert api.restarted == [["late"]]
    assert "late is not served, and tried again" in capsys.readouterr().err


def test_a_model_that_sleeps_is_not_woken_for_an_example(strata, platform, local):
    config = platform(models=[{"name": "digits", "autoscaling": {"min_replicas": 0}}])
    code, printed, _ = strata("up", "-c", config)
    assert code == 0
    assert "Try it" not in printed


def _body_of(line):
    """Return what a shell sends for an example; a program gets the arguments, as curl would."""
    show = "import sys; print(sys.stdin.read() if sys.argv[-1] == '@-' else sys.argv[-1])"
    shell = f'curl() {{ {sys.executable} -c "{show}" "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        (_tensor("FP32", -1), 0),
        (_tensor("INT64", -1, 20), 0),
        (_tensor("FP32", -1, 28, 28, 1), 0),
        (_tensor("BOOL", -1, 3), False),
        (_tensor("BYTES", -1), ""),
        (_tensor("BYTES", -1, 30), ""),
        ({**_tensor("FP32", -1), "name": "it's"}, 0),
    ],
)
def test_the_example_is_a_request_that_a_shell_sends_as_printed(ingress, tensor, value):
    ingress.pages["GET /v2/models/digits"] = {"inputs": [tensor], "outputs": []}
    line = example_call(f"http://127.0.0.1:{ingress.port}", "digits")
    assert len(line) < 250
    (sent,) = _body_of(line)["inputs"]
    shape = [abs(size) for size in tensor["shape"]]
    data = json.dumps(sent.pop("data"))  # as text, since 0 would equal false
    assert data == json.dumps([value] * math.prod(shape))
    assert sent == {**tensor, "shape": shape}


@pytest.mark.parametrize(
    ("inputs", "columns"),
    [
        ([_tensor("BF16", -1, 2, 3)], {"x": [[[0, 0, 0], [0, 0, 0]]]}),
        ([_tensor("FP16")], {"x": 0}),
        ([{**_tensor("BYTES", -1, 2), "name": "it's"}], {"it's": [["", ""]]}),
        ([_tensor("BOOL", -1), {**_tensor("INT8", 1, 1), "name": "y"}], {"x": [False], "y": [[0]]}),
    ],
)
def test_half_floats_which_v2_does_not_have_as_json_get_an_example_by_v1(ingress, inputs, columns):
    half = {**_tensor("FP16", -1), "name": "out"}
    ingress.pages["GET /v2/models/digits"] = {"inputs": inputs, "outputs": [half]}
    line = example_call(f"http://127.0.0.1:{ingress.port}", "digits")
    assert "/v1/models/digits:predict" in line
    assert _body_of(line) == {"inputs": columns}


def test_there_is_no_example_for_a_model_that_is_away_just_now(ingress):
    assert example_call(f"http://127.0.0.1:{ingress.port}", "away") is None


@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
def test_no_argument_of_an_example_is_longer_than_linux_takes(ingress, datatype):
    picture = _tensor(datatype, -1, 299, 299, 3)
    ingress.pages["GET /v2/models/digits"] = {"inputs": [picture], "outputs": []}
    line = example_call(f"http://127.0.0.1:{ingress.port}", "digits")
    assert len(line) < 400
    body = _body_of(line)["inputs"]
    data = body["x"] if datatype == "FP16" else body[0]["data"]
    assert np.array(data).size == 299 * 299 * 3
