"""`strata up`: what it says while a platform starts, and that it ends it.

The platform is a fake, since Ray takes many seconds; tests/integration/test_up.py has a real one.
"""

import signal
import time
import zipfile

import pytest

from serve.cli.stop_signal import StopSignal
from serve.cli.up import _Retries
from serve.deploy.application_status import ApplicationState


class FakeApi:
    """Ray Serve's REST API, whose applications have these states; remembers what was restarted."""

    def __init__(self, **statuses):
        self.statuses, self.restarted = statuses, []

    def states(self):
        return {
            name: ApplicationState(name, status, "no version", int(status == "RUNNING"), 1)
            for name, status in self.statuses.items()
        }

    def configs(self):
        return {}

    def restart(self, names):
        self.restarted.append(sorted(names))


class FakePlatform:
    """A LocalPlatform whose applications go through `states`; once up, `at_end` is called."""

    states: list = []  # noqa: RUF012  # set by the tests
    at_end = staticmethod(lambda: None)
    calls: list = []  # noqa: RUF012

    failed: dict = {}  # noqa: RUF012
    api = FakeApi()

    haproxy_metrics_port = 9101

    def __init__(self, config, applications, *, has_dashboard):
        self.config, self.has_dashboard = config, has_dashboard
        names = [each["name"] for each in applications(config)["applications"]]
        self.calls.append(f"for {', '.join(names)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.calls.append("stop")

    def start(self, report):
        self.calls.append("start with a dashboard" if self.has_dashboard else "start")
        report("starting Ray")

    def settle(self, timeout_s, progress):
        for state in self.states:
            progress({"digits": ApplicationState("digits", state, "", 1, 1)})
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
    # To this thread: to the process it may come by another one, and when the test has ended.
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def local(monkeypatch):
    """The platform that `strata up` starts in these tests."""
    monkeypatch.setattr("serve.deploy.local_platform.LocalPlatform", FakePlatform)
    monkeypatch.setattr("serve.deploy.monitoring.Monitoring", FakeMonitoring)
    monkeypatch.setattr("serve.cli.up._CHECK_PERIOD_S", 0.01)
    monkeypatch.setattr(FakePlatform, "states", ["DEPLOYING", "DEPLOYING", "RUNNING"])
    monkeypatch.setattr(FakePlatform, "at_end", staticmethod(_ctrl_c))
    wait, ends = StopSignal.wait, [None]

    def at_end(stopped, timeout_s):
        if ends:
            ends.pop()
            FakePlatform.at_end()
        return wait(stopped, timeout_s)

    monkeypatch.setattr(StopSignal, "wait", at_end)
    FakePlatform.calls.clear()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield FakePlatform
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def put(tmp_path):
    """Return a function that puts a version of a model into the repository, whole to look at."""

    def put(name):
        folder = tmp_path / "models" / name / "1"
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "model.keras", "w") as file:
            file.writestr("config.json", "{}")
            file.writestr("model.weights.h5", bytes(2000))

    return put


def _tensor(datatype, *shape):
    return {"name": "x", "datatype": datatype, "shape": list(shape)}


def test_up_says_where_everything_is_and_stops_when_told_to(strata, platform, local, ingress, put):
    put("digits")
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
    assert local.calls == ["for gateway, digits", "start", "ingress", "stop"]


def test_the_pages_of_rays_dashboard_are_there_for_who_asks(strata, platform, local, dashboard):
    code, printed, _ = strata("up", "-c", platform(), "--ray-dashboard")
    assert code == 0
    assert f"  dashboard  http://127.0.0.1:{dashboard.port}" in printed.splitlines()
    assert "start with a dashboard" in local.calls


def test_ctrl_c_while_it_starts_ends_what_was_started(strata, platform, local, monkeypatch):
    monkeypatch.setattr(local, "start", lambda self, report: _ctrl_c())
    code, printed, _ = strata("up", "-c", platform())
    assert (code, printed) == (130, "")
    assert local.calls == ["for gateway", "stop"]


def test_ctrl_c_while_the_ingress_is_waited_for_is_no_ready_platform(
    strata, platform, local, monkeypatch
):
    monkeypatch.setattr(local, "require_ingress", lambda self, failed: _ctrl_c())
    code, printed, _ = strata("up", "-c", platform())
    assert (code, printed) == (130, "")
    assert local.calls == ["for gateway", "start", "stop"]


@pytest.mark.timeout(60)  # it ends once it was told of the end of Prometheus
def test_what_watches_may_end_and_the_platform_goes_on(strata, platform, local, monkeypatch):
    monkeypatch.setattr(local, "at_end", staticmethod(lambda: None))
    code, printed, error = strata("up", "--watch", "-c", platform())
    assert code == 0
    assert "prometheus http://127.0.0.1:9090/alerts" in printed
    assert "grafana    not installed" in printed
    assert "Prometheus has ended; the platform goes on without it" in error
    assert local.calls[1:] == ["start", "watch 9101", "ingress", "stop", "stop watching"]


def test_a_pipeline_that_does_not_fit_is_refused_before_anything_starts(
    refused, platform, local, put
):
    put("digits")
    steps = [{"model": "digits", "version": 7}, {"model": "digits", "name": "again"}]
    config = platform(pipelines=[{"name": "twice", "kind": "sequence", "steps": steps}])
    assert "pipelines[twice]: model 'digits' has no version 7" in refused("up", "-c", config)
    assert local.calls == []


def test_what_has_no_version_waits_and_the_platform_starts_without_it(strata, platform, local, put):
    put("digits")
    steps = [{"model": "digits"}, {"model": "late"}]
    pipelines = [{"name": "both", "kind": "sequence", "steps": steps}]
    config = platform(models=[{"name": "digits"}, {"name": "late"}], pipelines=pipelines)
    code, printed, error = strata("up", "-c", config)
    assert code == 0
    assert local.calls[0] == "for gateway, digits"
    assert "late waits for its first version: " in error
    assert "both waits for the first version of late" in error
    assert "Joins as soon as it has a version: late, both" in printed


def test_what_has_come_joins_while_the_platform_runs(strata, platform, local, monkeypatch, put):
    monkeypatch.setattr(local, "at_end", staticmethod(lambda: put("late")))

    def look(self, now):
        assert list(self._awaited) == ["late"]
        _ctrl_c()

    monkeypatch.setattr("serve.cli.joining.Joining.look", look)
    assert strata("up", "-c", platform(models=[{"name": "late"}]))[0] == 0


class FakeTraining:
    """A Training that notes what it is of."""

    def __init__(self, names, config):
        FakePlatform.calls.append(f"train {', '.join(names)} of {config.name}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        FakePlatform.calls.append("stop training")

    def start(self):
        FakePlatform.calls.append("start training")


def test_what_is_missing_is_trained_beside_the_platform(strata, platform, local, monkeypatch, put):
    monkeypatch.setattr("serve.cli.up.Training", FakeTraining)
    put("digits")
    names = ("digits", "digits-large", "churn", "digits-generate")
    models = [{"name": name} for name in names]
    models[1]["pool"] = "p"
    steps = [{"model": "digits"}, {"model": "digits-large"}]
    pipelines = [{"name": "both", "kind": "sequence", "steps": steps}]
    config = platform(models=models, pipelines=pipelines)
    code, _, error = strata("up", "--train", "-c", config)
    assert code == 0
    assert local.calls == [
        "train digits-vae, digits-large of strata.yaml",
        "start training",
        "for gateway, digits, pool-p",
        *("start", "ingress", "stop", "stop training"),
    ]
    assert "training beside the platform: digits-vae, digits-large" in error
    assert "churn waits for its first version" in error
    assert "digits-large waits" not in error


def test_nothing_is_trained_where_nothing_is_missing(strata, platform, local, monkeypatch, put):
    monkeypatch.setattr("serve.cli.up.Training", lambda *_: pytest.fail("trained"))
    put("digits")
    assert strata("up", "--train", "-c", platform(models=[{"name": "digits"}]))[0] == 0


def test_a_model_in_a_pool_that_cannot_be_loaded_is_told_though_its_pool_runs(
    strata, platform, local, ingress, monkeypatch
):
    local.states = ["RUNNING"]
    monkeypatch.setattr(local, "api", FakeApi(**{"pool-p": "RUNNING"}))
    entry = {"name": "digits", "version": "1", "state": "UNAVAILABLE", "reason": "no graph"}
    ingress.pages["POST /v2/repository/index"] = [[entry]]
    _, _, error = strata("up", "-c", platform(models=[{"name": "digits", "pool": "p"}]))
    assert "digits is not served, and tried again: no graph" in error


def test_a_model_that_cannot_be_loaded_is_told_and_the_others_serve(
    strata, platform, local, ingress, monkeypatch, put
):
    put("digits")
    put("parity")
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


def test_a_model_that_sleeps_is_not_woken_for_an_example(strata, platform, local, put):
    put("digits")
    config = platform(models=[{"name": "digits", "autoscaling": {"min_replicas": 0}}])
    code, printed, _ = strata("up", "-c", config)
    assert code == 0
    assert "Try it" not in printed
