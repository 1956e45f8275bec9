"""The classes that Ray runs, without Ray: their arguments are those that applications makes."""

import asyncio
import itertools
import json
import logging
import pickle
import shutil
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from serve.batching.batcher import Batcher
from serve.config.schema import Config
from serve.deploy.applications import deploy_config
from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import (
    InferenceFailed,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    RepositoryError,
)
from serve.pipelines import remote
from serve.quotas.ledger import Report, Told
from serve.replica import deployments, model, servable, tasks, version_failures, version_labels
from serve.replica.deployments import GatewayDeployment, ModelDeployment, PoolDeployment
from serve.telemetry import request_reporter
from serve.types import InferRequest, InferResponse, Signature
from tests.receiver import Receiver
from tests.unit.replica.fakes import Held, X, Y, call, infer_request, until, x
from tests.unit.telemetry.fakes import FakeRecorder

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_CALLER = "b7ad6b7169203331"
_STEPS = {"name": "p", "kind": "sequence", "steps": [{"model": "digits"}]}


class Flushed(FakeRecorder):
    """A recorder that notes what it held each time that it was flushed."""

    def __init__(self, model, beside=None):
        super().__init__()
        self.flushes = []

    def flush(self):
        self.flushes.append({name for name, *_ in self.sums})


@pytest.fixture(autouse=True)
def ray(monkeypatch, tmp_path):
    """What the deployments ask of Ray: who they are, and where logs go."""
    context = SimpleNamespace(app_name="digits", replica_id=SimpleNamespace(unique_id="r1"))
    fake = SimpleNamespace(get_replica_context=lambda: context)
    monkeypatch.setattr(deployments, "ray_serve", fake)
    monkeypatch.setattr(deployments, "get_serve_logs_dir", lambda: str(tmp_path / "logs"))
    monkeypatch.setattr(deployments, "Recorder", Flushed)
    (tmp_path / "logs").mkdir()
    interval = sys.getswitchinterval()
    yield fake
    sys.setswitchinterval(interval)


@pytest.fixture
def platform(models, tmp_path):
    """Return args and user_config of an application, `digits` or one of `pipelines`."""

    def made(name="digits", poll_interval_s=0, model=(), **config):
        repository = {"root": str(models.root), "cache_dir": str(tmp_path / "cache")}
        tree = {
            "repository": {**repository, "poll_interval_s": poll_interval_s},
            "models": [{"name": "digits", **dict(model)}],
            **config,
        }
        applications = deploy_config(Config.model_validate(tree))["applications"]
        (found,) = [each for each in applications if each["name"] == name]
        return found["args"], found["deployments"][0]["user_config"]

    return made


def _undecorated(deployment):
    """Return the class as it is written; Ray's around it needs a replica to be in."""
    return deployment.__mro__[1]


async def _replica(args):
    plain = _undecorated(ModelDeployment)
    replica = plain.__new__(plain)
    await plain.__init__(replica, **args)
    return replica


async def _started(platform):
    args, user_config = platform
    replica = await _replica(args)
    await replica.reconfigure(user_config)
    return replica


async def _stop(replica):
    tasks = replica.servable.tasks.running.values()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    replica.__del__()


def _run(platform, use):
    """Start a replica, use it, stop it; return what `use` did."""

    async def scenario():
        replica = await _started(platform)
        try:
            return await use(replica)
        finally:
            await _stop(replica)

    return asyncio.run(scenario())


async def _y(replica, *values, **request):
    response = await replica.infer(InferRequest(x(*values), **request))
    return response.outputs["y"].tolist()


@pytest.fixture
def pod(monkeypatch):
    """The pod that replicas wait for: how often they did, and whether it is ready."""
    pod = SimpleNamespace(asked=0, is_ready=asyncio.Event())

    async def pod_was_ready():
        pod.asked += 1
        await pod.is_ready.wait()

    monkeypatch.setattr(deployments, "pod_was_ready", pod_was_ready)
    return pod


async def _waits_for(pod, replica, user_config):
    """Show that the first user_config is taken once the pod is ready, and others at once."""
    taking = asyncio.create_task(replica.reconfigure(user_config))
    await until(lambda: pod.asked)
    assert not taking.done()
    pod.is_ready.set()
    await taking
    await replica.reconfigure(user_config)
    assert pod.asked == 1


def test_a_model_runs_once_its_pod_is_ready(models, platform, pod):
    models.put("digits", 3)
    args, user_config = platform()

    async def scenario():
        replica = await _replica(args)
        await _waits_for(pod, replica, user_config)
        await _stop(replica)

    asyncio.run(scenario())


def test_the_first_user_config_loads_the_model(models, platform):
    models.put("digits", 3)
    args, user_config = platform()

    async def scenario():
        replica = await _replica(args)
        assert models.loaded == []
        assert await replica.check_health() is None
        await replica.reconfigure(user_config)
        response = await replica.handle_http(infer_request(1))
        await _stop(replica)
        return response

    response = asyncio.run(scenario())
    assert response.status == 200
    assert json.loads(response.body)["outputs"][0]["data"] == [2]
    assert [folder for folder, _ in models.loaded] == ["digits/3"]


def test_the_app_that_ray_serves_is_the_models_endpoint(models, platform):
    models.put("digits", 3)

    async def use(replica):
        return replica.__serve_build_asgi_app__() is replica.servable.endpoint

    assert _run(platform(), use)


@pytest.mark.parametrize(
    ("put", "said"),
    [
        ({}, "has no folder 'digits'"),
        ({"version": 3, "is_broken": True}, "version 3: digits/3 cannot be read"),
    ],
)
def test_a_replica_that_cannot_start_says_why_and_tells_ray_first(models, platform, put, said):
    if put:
        models.put("digits", **put)
    args, user_config = platform()

    async def scenario():
        replica = await _replica(args)
        with pytest.raises(RepositoryError, match=said):
            await replica.reconfigure(user_config)
        return replica

    replica = asyncio.run(scenario())
    assert replica.servable.tasks.running == {}
    (flushed,) = replica.servable.recorder.flushes
    assert ("model_loads" in flushed) == bool(put)


def test_a_replica_that_cannot_reach_its_repository_does_not_start(models, platform):
    args, user_config = platform()
    shutil.rmtree(models.root)

    async def scenario():
        replica = await _replica(args)
        with pytest.raises(RepositoryError, match="models"):
            await replica.reconfigure(user_config)

    asyncio.run(scenario())


def test_a_later_change_that_fails_leaves_a_running_replica_alone(models, platform, caplog):
    models.put("digits", 3)

    async def use(replica):
        shutil.rmtree(models.root)
        with caplog.at_level(logging.ERROR, "ray.serve"):
            await replica.reconfigure(platform()[1])
        return await _y(replica, 1), await replica.check_health()

    assert _run(platform(), use) == ([2], None)
    assert "model 'digits': the change was not applied yet" in caplog.text


def test_a_version_that_cannot_be_loaded_is_described_and_the_others_serve(models, platform):
    models.put("digits", 3)
    models.put("digits", 4, is_broken=True)
    change = {"version_policy": {"all": True}, "version_labels": {"stable": 3}}

    async def use(replica):
        return await replica.describe(), await _y(replica, 1)

    assert _run(platform(model=change), use) == (
        {
            "versions": [3],
            "labels": {"stable": 3},
            "failures": {4: "digits/4 cannot be read"},
            "loading": {},
            "together": {},
            "resting": [],
            "engines": {3: ("tensorflow", "set by a test")},
        },
        [2],
    )


def test_policy_and_labels_change_in_place(models, platform):
    models.put("digits", 1, factor=10)
    models.put("digits", 2)
    change = {
        "version_policy": {"specific": [1, 2]},
        "version_labels": {"old": "1"},
    }  # as a large one is

    async def use(replica):
        before = await replica.describe()
        await replica.reconfigure(platform(model=change)[1])
        labelled = infer_request(1, path="/v2/models/digits/labels/old/infer")
        return before, await replica.describe(), await replica.handle_http(labelled)

    before, after, response = _run(platform(), use)
    engine = ("tensorflow", "set by a test")
    assert before.pop("engines") == {2: engine}
    assert after.pop("engines") == {1: engine, 2: engine}
    assert before == {
        **{"versions": [2], "labels": {}, "failures": {}, "loading": {}, "together": {}},
        "resting": [],
    }
    assert after == {**before, "versions": [1, 2], "labels": {"old": 1}}
    assert json.loads(response.body)["outputs"][0]["data"] == [10]


def test_tenants_objective_and_prices_reach_the_metrics(models, platform):
    models.put("digits", 3)
    change = platform(
        model={
            "slo": {"latency_ms": 1e-6, "latency_target": 99, "availability": 99.9},
            "autoscaling": {"max_replicas": 4},
            "ray_actor_options": {"num_cpus": 2},
        },
        tenants={"header": "x-team", "names": ["ada"]},
        prices={"cpu_hour": 0.5},
    )

    async def use(replica):
        await replica.handle_http(infer_request(1, x_team="ada"))
        await replica.servable.sample()
        return replica.servable.recorder

    recorder = _run(change, use)
    assert recorder.value("model_requests", code="200", tenant="ada") == 1
    assert recorder.value("model_slow_requests", version="3") == 1
    objective = recorder.gauges["model_slo_objective_ratio", ("slo", "availability")]
    assert objective == pytest.approx(0.999)
    assert recorder.gauges[("model_max_replicas",)] == 4
    assert recorder.gauges[("model_reserved_cost_per_hour",)] == 1


def test_the_access_log_is_begun_and_ended_in_place(models, platform, tmp_path):
    models.put("digits", 3)

    async def use(replica):
        await replica.handle_http(infer_request(1))
        await replica.reconfigure(platform(access_log=True)[1])
        await replica.handle_http(infer_request(2, x_request_id="second"))
        await replica.reconfigure(platform()[1])
        assert replica.servable.endpoint.reporter is None
        await replica.handle_http(infer_request(3))
        logs = tmp_path / "logs"  # a thread writes them, which begins when it can
        (path,) = await until(lambda: [each for each in logs.glob("*") if each.read_text()])
        return path

    path = _run(platform(), use)
    assert path.name == "access_digits_r1.log"
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["request_id"] == "second"


def test_a_replica_whose_version_has_made_room_for_the_next_is_healthy(models, platform):
    models.put("digits", 1)
    policy = {"version_policy": {"latest": 1, "replace": "before_load"}}
    new = Held("warmup", factor=5)

    async def use(replica):
        models.put("digits", 2)
        models.held["digits/2"] = new
        refreshing = asyncio.create_task(replica.servable.model.refresh())
        await asyncio.to_thread(new.entered.wait)
        await replica.check_health()
        during = await replica.describe()
        new.goes_on.set()
        await refreshing
        await replica.check_health()
        return during, await replica.describe()

    during, after = _run(platform(model=policy), use)
    assert (during["versions"], list(during["loading"])) == ([], [2])
    assert (after["versions"], after["loading"]) == ([2], {})


def test_a_replica_that_has_lost_its_versions_is_unhealthy(models, platform):
    models.put("digits", 3)

    async def use(replica):
        await replica.check_health()
        replica.servable.model.versions.clear()
        with pytest.raises(ModelNotReady, match="'digits' has lost its versions"):
            await replica.check_health()

    _run(platform(), use)


def test_a_pipeline_may_ask_for_a_version_and_its_signature(models, platform):
    models.put("digits", 1, factor=10)
    models.put("digits", 3)
    both = {"version_policy": {"all": True}}

    async def use(replica):
        with pytest.raises(ModelNotFound):
            await replica.signature(2)
        return await replica.signature(1), await _y(replica, 1, version=1), await _y(replica, 1)

    signature, pinned, newest = _run(platform(model=both), use)
    assert (signature.inputs, signature.outputs) == ((X,), (Y,))
    assert (pinned, newest) == ([10], [2])


@pytest.mark.parametrize("access_log", [True, False])
def test_a_mistake_in_a_pipelines_call_is_returned_and_not_raised(models, platform, access_log):
    models.put("digits", 3)

    async def use(replica):
        with pytest.raises(InferenceFailed):
            await replica.infer(InferRequest(x(13)))
        return await replica.infer(InferRequest(x(30)))

    answer = _run(platform(access_log=access_log), use)
    assert isinstance(answer, InvalidRequest)
    assert answer.__cause__ is None
    assert str(pickle.loads(pickle.dumps(answer))) == "30 is not in [0, 10)"


def test_a_pipelines_call_is_traced_below_its_caller_where_there_is_a_tracer(models, platform):
    models.put("digits", 3)

    async def use(replica):
        traces = {"traceparent": f"00-{_TRACE}-{_CALLER}-01"}
        return await _y(replica, 1, trace=traces), await _y(replica, 2)

    with Receiver() as collector:
        tracing = {"endpoint": collector.endpoint, "sampling_ratio": 0}
        assert _run(platform(tracing=tracing), use) == ([2], [4])
        (span,) = collector.named("infer digits")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (_TRACE, _CALLER)


def test_gauges_are_told_again_and_again_by_one_task(models, platform, monkeypatch):
    monkeypatch.setattr(servable, "_SAMPLE_PERIOD_S", 0.001)
    models.put("digits", 3)

    async def use(replica):
        await replica.reconfigure(platform()[1])
        assert set(replica.servable.tasks.running) == {"sample", "catch up"}
        recorder = replica.servable.recorder
        for _ in range(2):
            recorder.gauges.clear()
            await until(lambda: len(recorder.gauges) > 5)
        assert len(recorder.flushes) > 2
        return recorder.gauges

    gauges = _run(platform(), use)
    assert gauges["model_ready", ("version", "3")] == 1
    assert gauges[("model_requests_in_flight",)] == 0
    assert sys.getswitchinterval() < 0.001


def test_a_new_version_is_taken_up_by_looking_for_it(models, platform):
    models.put("digits", 3)

    async def use(replica):
        assert set(replica.servable.tasks.running) == {"sample", "catch up", "watch"}
        models.put("digits", 4, factor=7)
        await until(lambda: set(replica.servable.model.versions) == {4})
        return await _y(replica, 1)

    assert _run(platform(poll_interval_s=0.001), use) == [7]


def test_a_colocated_pipeline_takes_up_a_members_new_version(models, platform):
    models.put("digits", 3)
    served = platform("p", poll_interval_s=0.001, pipelines=[_STEPS])

    async def use(replica):
        before = await _y(replica, 1)
        models.put("digits", 4, factor=7)
        await until(lambda: len(models.engines) == 2 and models.engines[0].is_closed)
        return before, await _y(replica, 1)

    assert _run(served, use) == ([2], [7])


def test_a_pipeline_of_other_replicas_calls_them_by_the_replicas_loop(
    models, platform, monkeypatch
):
    seen = []

    async def signature(version):
        return Signature("serving_default", (X,), (Y,), True)

    async def infer(request):
        seen.append((request.timeout_s, asyncio.get_running_loop()))
        return InferResponse("digits", 3, {"y": request.inputs["x"] * 5})

    handle = SimpleNamespace(
        signature=SimpleNamespace(remote=signature), infer=SimpleNamespace(remote=infer)
    )
    fake = SimpleNamespace(get_deployment_handle=lambda deployment, app_name: handle)
    monkeypatch.setattr(remote, "ray_serve", fake)
    pipeline = {**_STEPS, "placement": "deployment", "limits": {"request_timeout_s": 9}}

    async def use(replica):
        loop = asyncio.get_running_loop()
        y = await _y(replica, 1)
        ((timeout_s, called_by),) = seen
        return y, 8 < timeout_s <= 9, called_by is loop

    assert _run(platform("p", pipelines=[pipeline]), use) == ([5], True, True)
    assert models.loaded == []


def _boom(*_, **__):
    raise ZeroDivisionError("injected")


@pytest.mark.parametrize("broken", ["gauge", "model", "metrics"])
def test_what_fails_in_a_sample_keeps_nothing_else_away(models, platform, monkeypatch, broken):
    monkeypatch.setattr(servable, "_SAMPLE_PERIOD_S", 0.001)
    models.put("digits", 3)

    async def use(replica):
        recorder = replica.servable.recorder
        owner = {"model": replica.servable.model, "metrics": replica.servable.metrics}.get(
            broken, recorder
        )
        monkeypatch.setattr(owner, "gauge" if owner is recorder else "sample", _boom)
        before = len(recorder.flushes)
        await until(lambda: len(recorder.flushes) > before + 3)
        await until(lambda: recorder.value("internal_errors", place="task"))
        await replica.check_health()
        return await _y(replica, 1)

    assert _run(platform(), use) == [2]


def test_the_watch_goes_on_after_a_look_that_failed_in_an_unusual_way(
    models, platform, monkeypatch
):
    models.put("digits", 3)

    async def use(replica):
        looked = []
        source = replica.servable.model._source
        versions = source.versions

        def fails():
            looked.append(1)
            _boom()

        monkeypatch.setattr(source, "versions", fails)
        await until(lambda: len(looked) > 2)
        monkeypatch.setattr(source, "versions", versions)
        models.put("digits", 4, factor=7)
        await until(lambda: set(replica.servable.model.versions) == {4})
        await replica.check_health()
        await replica.servable.sample()
        return await _y(replica, 1), replica.servable.recorder.value(
            "internal_errors", place="task"
        ) > 2

    assert _run(platform(poll_interval_s=0.001), use) == ([7], True)


@pytest.mark.parametrize("task", ["sample", "watch", "catch up"])
def test_a_background_task_that_has_ended_makes_the_replica_unhealthy(models, platform, task):
    models.put("digits", 3)

    async def use(replica):
        await replica.check_health()
        replica.servable.tasks.running[task].cancel()
        await asyncio.wait([replica.servable.tasks.running[task]])
        with pytest.raises(ModelNotReady, match=f"'digits': the background task '{task}' has"):
            await replica.check_health()

    _run(platform(poll_interval_s=5), use)


def test_an_engine_that_does_not_come_back_makes_the_replica_unhealthy(
    models, platform, monkeypatch
):
    models.put("digits", 3)

    async def use(replica):
        monkeypatch.setattr(Batcher, "busy_s", 1_000)
        with pytest.raises(ModelNotReady, match="version 3: its engine has been at one call"):
            await replica.check_health()

    _run(platform(), use)


@pytest.mark.parametrize("part", ["reporter", "metrics"])
def test_half_a_change_keeps_the_other_half_and_is_reached_later(
    models, platform, monkeypatch, caplog, part
):
    monkeypatch.setattr(servable, "_CATCH_UP_PERIOD_S", 0.001)
    models.put("digits", 1, factor=10)
    models.put("digits", 2)
    change = {"version_policy": {"all": True}, "version_labels": {"old": 1}}
    tenants = {"header": "x-team", "names": ["ada"]}

    async def use(replica):
        owner, name = {
            "reporter": (deployments, "reporter_for"),
            "metrics": (replica.servable.metrics, "apply"),
        }[part]
        works = getattr(owner, name)
        monkeypatch.setattr(owner, name, _boom)
        await replica.reconfigure(platform(model=change, tenants=tenants, access_log=True)[1])
        labelled = infer_request(1, path="/v2/models/digits/labels/old/infer", x_team="ada")
        response = await replica.handle_http(labelled)
        assert json.loads(response.body)["outputs"][0]["data"] == [10]
        await replica.check_health()
        assert set(replica.servable.pending) == {part}
        monkeypatch.setattr(owner, name, works)
        await until(lambda: not replica.servable.pending)
        await replica.handle_http(labelled)
        return replica.servable.endpoint.reporter, replica.servable.recorder

    reporter, recorder = _run(platform(), use)
    assert reporter is not None
    assert recorder.value("model_requests", code="200", tenant="ada") >= 1
    assert caplog.text.count("a change of model 'digits': ZeroDivisionError: injected") == 1


def test_a_change_that_fails_in_an_unusual_way_leaves_a_running_replica_alone(
    models, platform, monkeypatch
):
    models.put("digits", 3)

    async def use(replica):
        monkeypatch.setattr(replica.servable.model._source, "versions", _boom)
        await replica.reconfigure(platform(model={"version_labels": {"stable": 3}})[1])
        await replica.check_health()
        return await _y(replica, 1), (await replica.describe())["labels"]

    assert _run(platform(), use) == ([2], {"stable": 3})


def test_without_a_watch_a_change_is_reached_once_the_repository_is_back(
    models, platform, monkeypatch
):
    monkeypatch.setattr(servable, "_CATCH_UP_PERIOD_S", 0.001)
    models.put("digits", 1, factor=10)
    models.put("digits", 2)
    away = models.root.with_name("away")

    async def use(replica):
        models.root.rename(away)
        both = {"version_policy": {"all": True}, "version_labels": {"old": 1}}
        await replica.reconfigure(platform(model=both)[1])
        away.rename(models.root)
        await until(lambda: set(replica.servable.model.versions) == {1, 2})
        return (await replica.describe())["labels"]

    assert _run(platform(), use) == {"old": 1}


_OF_A_CHANGE = (
    deployments.__file__,
    servable.__file__,
    tasks.__file__,
    model.__file__,
    version_labels.__file__,
    request_reporter.__file__,
)
# What has not begun yet, what says that nothing serves, and what only a new process can mend.
_MAY_NOT_FAIL = {
    "reconfigure",
    "take",
    "require_ready",
    "start_tasks",
    "start",
    "repeat",
    "_begin_serving",
}
_OF_ANOTHER_REPLICA = {"__del__", "_close", "close"}


def _failing(at, reached):
    """Return a tracer that raises at the `at`-th step of a change, a function of it that begins."""
    steps = itertools.count()

    def trace(frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename in _OF_A_CHANGE:
            is_part = (
                code.co_name not in _MAY_NOT_FAIL | _OF_ANOTHER_REPLICA
                and not code.co_name.startswith("<")
            )
            if is_part and next(steps) == at:
                reached.append(code.co_name)
                raise ZeroDivisionError(f"injected into {code.co_name}")

    return trace


@pytest.fixture
def at_once(monkeypatch):
    """Have what failed be tried again at once."""
    monkeypatch.setattr(servable, "_CATCH_UP_PERIOD_S", 0.001)
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)


def test_a_change_that_fails_at_any_step_is_reached_by_itself(models, platform, at_once):
    models.put("digits", 1, factor=10)
    models.put("digits", 2)
    before = {"version_policy": {"specific": [1]}, "version_labels": {"stable": 1}}
    change = {"version_policy": {"all": True}, "version_labels": {"stable": 2, "old": 1}}
    wanted = {"versions": [1, 2], "labels": {"stable": 2, "old": 1}, "failures": {}}
    new = platform(model=change, tenants={"header": "x-team", "names": ["ada"]}, access_log=True)[1]
    labelled = infer_request(1, path="/v2/models/digits/labels/stable/infer", x_team="ada")

    async def use(replica, at, reached):
        before = sys.gettrace()
        sys.settrace(_failing(at, reached))
        try:
            await replica.reconfigure(new)
        finally:
            sys.settrace(before)
        await replica.check_health()
        response = await replica.handle_http(labelled)
        (output,) = json.loads(response.body)["outputs"]
        assert output["data"] in ([2], [10])
        async with asyncio.timeout(30):
            while (
                replica.servable.pending or not wanted.items() <= (await replica.describe()).items()
            ):
                await asyncio.sleep(0.001)
        await replica.handle_http(labelled)
        assert replica.servable.endpoint.reporter is not None
        assert replica.servable.recorder.value("model_requests", tenant="ada")

    for at in range(200):
        reached = []
        _run(platform(model=before, poll_interval_s=0.001), partial(use, at=at, reached=reached))
        if not reached:
            assert at > 10
            return
    raise AssertionError("there is no end of steps")


def test_rays_second_try_starts_a_replica_that_could_not(models, platform):
    args, user_config = platform()

    async def scenario():
        replica = await _replica(args)
        for _ in range(2):
            with pytest.raises(RepositoryError):
                await replica.reconfigure(user_config)
        models.put("digits", 3)
        await replica.reconfigure(user_config)
        await replica.check_health()
        assert set(replica.servable.tasks.running) == {"sample", "catch up"}
        y = await _y(replica, 1)
        await _stop(replica)
        return y

    assert asyncio.run(scenario()) == [2]


def test_a_replica_whose_init_raised_ends_without_another_error(platform):
    args, _ = platform()
    plain = _undecorated(ModelDeployment)
    replica = plain.__new__(plain)

    async def scenario():
        with pytest.raises(ValidationError):
            await plain.__init__(replica, **{**args, "served": {"name": "digits", "limits": 1}})

    asyncio.run(scenario())
    replica.__del__()
    gateway = _undecorated(GatewayDeployment)
    gateway.__new__(gateway).__del__()


async def _pool(args):
    plain = _undecorated(PoolDeployment)
    replica = plain.__new__(plain)
    await plain.__init__(replica, **args)
    return replica


def _stop_pool(replica):
    members = replica.pool.members
    for each in (members.tasks, members.by_name["digits"].servable.tasks):
        each.stop()
    replica.__del__()


def test_a_pool_runs_once_its_pod_is_ready(models, platform, pod):
    models.put("digits", 3)
    args, user_config = platform("pool-p", model={"pool": "p"})

    async def scenario():
        replica = await _pool(args)
        await _waits_for(pod, replica, user_config)
        _stop_pool(replica)

    asyncio.run(scenario())


def test_a_pools_replica_serves_the_models_of_its_user_config(models, platform, ray, tmp_path):
    models.put("digits", 3)
    args, user_config = platform("pool-p", model={"pool": "p"}, access_log=True)
    ray.get_deployment_handle = lambda deployment, app_name: SimpleNamespace(
        handle_http=SimpleNamespace(remote=lambda it: asyncio.sleep(0, HttpResponse(404, b"{}")))
    )

    async def scenario():
        replica = await _pool(args)
        assert await replica.check_health() is None
        await replica.reconfigure(user_config)
        app = replica.__serve_build_asgi_app__()
        response = await replica.handle_http("digits", infer_request(1))
        assert json.loads(response.body)["outputs"][0]["data"] == [2]
        assert (await call(app, infer_request(2)))[0] == 200
        elsewhere = infer_request(1, path="/v2/models/other/infer")
        status, headers = await call(app, elsewhere)
        assert (status, headers[b"x-strata-pool"]) == (404, b"-")
        outputs = (await replica.infer("digits", InferRequest(x(4)))).outputs
        assert outputs["y"].tolist() == [8]
        assert (await replica.signature("digits", None)).inputs == (X,)
        described = await replica.describe_all("digits")
        assert await replica.check_health() is None
        _stop_pool(replica)
        return described["digits"]["versions"]

    assert asyncio.run(scenario()) == [3]
    (path,) = (tmp_path / "logs").iterdir()
    assert len(path.read_text().splitlines()) == 2
    assert sys.getswitchinterval() < 0.001


def test_a_pool_whose_gateway_is_away_says_so(ray):
    async def away(request):
        raise RayServeException("gone")

    ray.get_deployment_handle = lambda deployment, app_name: SimpleNamespace(
        handle_http=SimpleNamespace(remote=away)
    )
    with pytest.raises(ModelNotReady, match="the gateway does not answer"):
        asyncio.run(deployments._ask_gateway(infer_request(1)))


def test_a_gateway_that_is_not_there_yet_is_one_that_is_away(ray):
    def unknown(deployment, app_name):
        raise KeyError(f"no application {app_name}")

    ray.get_deployment_handle = unknown
    assert asyncio.run(deployments._tell_gateway(None)) is None
    with pytest.raises(ModelNotReady, match="the gateway does not answer"):
        asyncio.run(deployments._ask_gateway(infer_request(1)))


def _gateway(use, **config):
    """Start a gateway's replica, use it, stop it; return what `use` did."""
    applications = deploy_config(Config.model_validate(config))["applications"]
    user_config = applications[0]["deployments"][0]["user_config"]

    async def scenario():
        replica = _undecorated(GatewayDeployment)()
        await replica.reconfigure(user_config)
        try:
            return await use(replica, user_config)
        finally:
            replica._tasks.stop()
            replica.__del__()

    return asyncio.run(scenario())


def test_the_gateway_knows_the_names_of_models_and_pipelines():
    async def use(replica, user_config):
        return await replica.__serve_build_asgi_app__()._list()

    models = [{"name": "digits"}, {"name": "words"}]
    response = _gateway(use, models=models, pipelines=[_STEPS])
    assert json.loads(response.body) == {"models": ["digits", "words", "p"]}


def test_the_gateway_knows_what_waits_for_its_first_version():
    async def use(replica, user_config):
        app = replica.__serve_build_asgi_app__()
        waiting = [{"name": "late", "models": ["late"], "application": {"name": "late"}}]
        await replica.reconfigure({**user_config, "awaited": waiting})
        with pytest.raises(ModelNotReady, match="'late' waits for its first version"):
            await app._call("late", "describe")
        await replica.reconfigure(user_config)
        assert not app._awaited

    _gateway(use, models=[{"name": "late"}])


def test_the_gateways_sums_are_told_by_one_task(monkeypatch):
    monkeypatch.setattr(deployments, "_SAMPLE_PERIOD_S", 0.001)

    async def use(replica, user_config):
        flushing = replica._tasks.running["flush"]
        await replica.reconfigure(user_config)
        assert replica._tasks.running["flush"] is flushing
        await until(lambda: len(replica._recorder.flushes) > 2)

    _gateway(use)


def test_the_gateway_closes_its_access_log_when_it_ends(tmp_path):
    async def use(replica, user_config):
        return await call(replica.__serve_build_asgi_app__(), HttpRequest("GET", "/v2", {}))

    assert _gateway(use, access_log=True)[0] == 200
    (path,) = (tmp_path / "logs").iterdir()
    assert len(path.read_text().splitlines()) == 1


def test_the_gateway_counts_its_faults_and_is_reached_without_traces(monkeypatch, caplog):
    monkeypatch.setattr(deployments, "_SAMPLE_PERIOD_S", 0.001)
    monkeypatch.setattr(deployments, "reporter_for", _boom)

    async def use(replica, user_config):
        listed = await replica.__serve_build_asgi_app__()._list()
        await until(lambda: replica._recorder.value("internal_errors", place="change"))
        await replica.check_health()
        replica._tasks.stop()
        await asyncio.wait([replica._tasks.running["flush"]])
        with pytest.raises(ModelNotReady, match="the gateway: the background task 'flush' has"):
            await replica.check_health()
        return json.loads(listed.body)

    assert _gateway(use, models=[{"name": "digits"}]) == {"models": ["digits"]}
    assert caplog.text.count("a change of the gateway: ZeroDivisionError: injected") == 1


def _gateway_says(monkeypatch, ray, answer):
    """Have the gateway take reports, which are returned, and answer this."""
    reports = []

    async def take(report):
        reports.append(report)
        if isinstance(answer, Exception):
            raise answer
        return answer

    handle = SimpleNamespace(take_report=SimpleNamespace(remote=take))
    ray.get_deployment_handle = lambda *_, **__: handle

    async def outcome(call):
        return await call

    monkeypatch.setattr(deployments, "outcome", outcome)
    return reports


@pytest.mark.parametrize("answer", [Told("one", {None: 4, "digits": 2}), RayError("it is gone")])
def test_quotas_come_and_go_in_place_and_the_gateway_hears_of_them(
    models, platform, monkeypatch, ray, answer
):
    monkeypatch.setattr(deployments, "TICK_EACH_S", 0.001)
    models.put("digits", 3)
    reports = _gateway_says(monkeypatch, ray, answer)
    with_quotas = platform(access={"quotas": [{"rows_per_s": 0}]})[1]

    async def use(replica):
        async def status():
            return (await replica.handle_http(infer_request(1))).status

        assert (await status(), reports) == (200, [])
        await replica.reconfigure(with_quotas)
        assert await status() == 429
        await until(lambda: len(reports) > 3)
        assert await _y(replica, 1) == [2], "a pipeline's call is not counted"
        keeper = replica._quotas
        assert keeper.local.replicas("digits") == (1 if isinstance(answer, Exception) else 2)
        await replica.reconfigure(platform()[1])
        return await status()

    assert _run(platform(), use) == 200
    assert {(report.replica, report.models) for report in reports} == {("r1", ("digits",))}


def test_the_gateway_adds_up_what_replicas_report(ray):
    plain = _undecorated(GatewayDeployment)
    gateway = plain.__new__(plain)
    plain.__init__(gateway)
    told = asyncio.run(gateway.take_report(Report("r1", ("digits",), 7, {})))
    assert told == Told(gateway._ledger.name)
