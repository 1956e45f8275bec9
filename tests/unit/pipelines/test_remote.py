"""A member elsewhere: Ray is a fake here, the event loop and the threads are real."""

import asyncio
import threading
import time
from concurrent.futures import wait
from types import SimpleNamespace

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

from serve import errors
from serve.batching.deadline import until
from serve.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
    ModelNotReady,
    QueueFull,
    RowsMixed,
    ServeError,
)
from serve.pipelines import remote
from serve.pipelines.remote import Place, RemoteMember
from serve.telemetry.trace_context import following
from serve.types import InferRequest, InferResponse, Signature
from tests.unit.pipelines.fakes import IN, NUMBER
from tests.unit.replica.fakes import Called

_SIGNATURE = Signature("serving_default", (IN,), (NUMBER,), True)
_CARRIER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
_ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ServeError) and value is not ServeError
]


@pytest.fixture
def loop():
    """A replica's event loop, which runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Replica:
    """The replicas of the model `digits` as their handle shows them; `error` is what they raise."""

    def __init__(self):
        self.error, self.errors, self.answer = None, [], None
        self.requests, self.versions, self.loops = [], [], set()
        self.hangs = False
        self.was_cancelled = threading.Event()
        self.infer = SimpleNamespace(remote=lambda it: Called(self._infer(it)))
        self.signature = SimpleNamespace(remote=lambda it: Called(self._signature(it)))

    def wait_until_asked(self, futures, timeout_s):
        """Wait as concurrent.futures does, but no shorter than until the call is here."""
        while not self.requests:
            time.sleep(0.001)
        return wait(futures, timeout_s)

    async def _signature(self, version):
        self.versions.append(version)
        await self._work()
        return _SIGNATURE

    async def _infer(self, request):
        self.requests.append(request)
        await self._work()
        return self.answer or InferResponse("digits", 3, {"y": request.inputs["x"] * 2})

    async def _work(self):
        self.loops.add(asyncio.get_running_loop())
        if self.errors:
            raise self.errors.pop(0)
        if self.error is not None:
            raise self.error
        try:
            await asyncio.sleep(0 if not self.hangs else 3600)
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise


@pytest.fixture
def replica(monkeypatch):
    replica, asked = Replica(), []

    def handle(deployment, app_name):
        asked.append((deployment, app_name))
        return replica

    monkeypatch.setattr(remote, "ray_serve", SimpleNamespace(get_deployment_handle=handle))
    yield replica
    assert set(asked) == {("model", "digits")}


def _member(loop, version=None, timeout_s=30.0):
    return RemoteMember("fine", Place("digits"), version, timeout_s, loop)


def _raised(cause):
    """Return what awaiting a handle raises where the replica raised `cause`."""
    return RayTaskError("infer", "Traceback ...", cause).as_instanceof_cause()


_X = {"x": np.array([1, 2], np.float32)}


def test_a_members_outputs_are_what_its_replica_computed_on_the_replicas_loop(loop, replica):
    outputs = _member(loop).compute(_X)
    assert outputs["y"].tolist() == [2, 4]
    assert replica.requests[0].inputs is _X
    assert replica.loops == {loop}


def test_a_member_whose_new_version_computes_rows_together_gets_no_strangers_any_more(
    loop, replica
):
    member = _member(loop)
    replica.errors = [_raised(RowsMixed("version 4 computes all rows together"))]
    with pytest.raises(RowsMixed, match="version 4 computes all rows together"):
        member.compute(_X)
    assert not member.signature.batched
    member.compute(_X)
    assert [request.has_strangers for request in replica.requests] == [True, False]


@pytest.mark.parametrize("version", [None, 4])
def test_a_member_asks_for_its_version_and_that_versions_signature(loop, replica, version):
    member = _member(loop, version)
    assert (member.label, member.signature) == ("fine", _SIGNATURE)
    member.compute(_X)
    assert replica.versions == [version]
    assert replica.requests[0].version == version


def test_a_replica_is_told_how_long_the_pipeline_waits(loop, replica):
    _member(loop, timeout_s=7.5).compute(_X)
    assert replica.requests[0].timeout_s == 7.5


def test_a_replica_has_no_more_time_than_those_who_wait_for_the_batch(loop, replica, monkeypatch):
    member = _member(loop, timeout_s=7.5)
    with until(time.perf_counter() + 3):
        member.compute(_X)
    assert 2 < replica.requests[0].timeout_s <= 3
    replica.hangs = True
    monkeypatch.setattr(remote, "wait", replica.wait_until_asked)
    with until(time.perf_counter() + 3), pytest.raises(DeadlineExceeded):
        member.compute(_X)
    assert replica.was_cancelled.wait(30)


def test_a_replica_is_not_asked_once_nobody_waits(loop, replica):
    member = _member(loop)
    with until(time.perf_counter()), pytest.raises(DeadlineExceeded, match="no time is left"):
        member.compute(_X)
    assert replica.requests == []


def test_a_replica_is_told_of_the_trace_if_there_is_one(loop, replica):
    member = _member(loop)
    member.compute(_X)
    with following(_CARRIER):
        member.compute(_X)
    assert [request.trace for request in replica.requests] == [None, _CARRIER]


@pytest.mark.parametrize("error", _ERRORS)
def test_an_error_of_ours_arrives_as_it_was_raised(loop, replica, error):
    member = _member(loop)
    replica.error = _raised(error("what went wrong"))
    with pytest.raises(error) as caught:
        member.compute(_X)
    assert type(caught.value) is error
    assert str(caught.value) == "what went wrong"


def test_any_other_exception_is_a_failed_inference_that_tells_no_details(loop, replica):
    member = _member(loop)
    replica.error = _raised(ZeroDivisionError("secret"))
    with pytest.raises(InferenceFailed) as caught:
        member.compute(_X)
    assert str(caught.value) == "model 'digits' failed: ZeroDivisionError"
    assert caught.value.__cause__ is replica.error


def test_a_replica_that_is_late_is_not_waited_for_and_its_call_is_cancelled(
    loop, replica, monkeypatch
):
    member = _member(loop, timeout_s=0.01)
    replica.hangs = True
    monkeypatch.setattr(remote, "wait", replica.wait_until_asked)
    with pytest.raises(DeadlineExceeded, match=r"'digits' did not answer within 0\.01 s"):
        member.compute(_X)
    assert replica.was_cancelled.wait(30)


@pytest.mark.parametrize(
    "error", [RayServeException("gone"), DeploymentUnavailableError("Deployment(name='model')")]
)
def test_a_model_without_replicas_is_not_ready(loop, replica, error):
    member = _member(loop)
    replica.error = error
    with pytest.raises(ModelNotReady, match="'digits' has no replica that answers"):
        member.compute(_X)


def test_a_clients_mistake_comes_as_an_answer_and_is_raised_here(loop, replica):
    member = _member(loop)
    replica.answer = InvalidRequest("30 is not in [0, 10)")
    with pytest.raises(InvalidRequest, match="30 is not in"):
        member.compute(_X)


def test_a_timeout_of_the_models_own_is_a_failure_and_not_late(loop, replica):
    member = _member(loop)
    replica.error = _raised(TimeoutError("the model's own"))
    with pytest.raises(InferenceFailed, match="'digits' failed: TimeoutError"):
        member.compute(_X)


@pytest.mark.parametrize("error", [ActorDiedError(), ActorUnavailableError("away", b"1" * 16)])
def test_another_replica_is_asked_for_one_that_died_once(loop, replica, error):
    member = _member(loop)
    replica.errors = [error]
    assert member.compute(_X)["y"].tolist() == [2, 4]
    replica.errors = [error, error]
    with pytest.raises(ModelNotReady, match="'digits' has no replica that answers"):
        member.compute(_X)
    assert len(replica.requests) == 4


def test_a_queue_that_is_full_elsewhere_is_full_here(loop, replica):
    member = _member(loop)
    replica.error = BackPressureError(1, 1)
    with pytest.raises(QueueFull, match="'digits' has too many requests"):
        member.compute(_X)


def test_a_pipeline_is_not_built_before_its_members_answer(loop, replica, monkeypatch):
    replica.hangs = True
    with monkeypatch.context() as impatient:
        impatient.setattr(remote, "_START_TIMEOUT_S", 0.01)
        with pytest.raises(DeadlineExceeded):
            _member(loop)
    replica.hangs, replica.error = False, _raised(ModelNotReady("not loaded"))
    with pytest.raises(ModelNotReady, match="not loaded"):
        _member(loop)


def test_a_member_elsewhere_never_blocks_the_loop_and_outlives_its_pipeline(loop, replica):
    member = _member(loop)
    assert not member.may_block_loop
    member.warmup()
    member.close()
    assert member.retraces == 0
    assert member.compute(_X)["y"].tolist() == [2, 4]


def test_a_member_in_a_pool_is_asked_for_by_its_name(loop, monkeypatch):
    asked = []

    async def answered(model, argument):
        asked.append((model, argument if argument is None else type(argument)))
        return (
            InferResponse("digits", 3, {"y": argument.inputs["x"] * 2}) if argument else _SIGNATURE
        )

    def handle(deployment, app_name):
        assert (deployment, app_name) == ("model", "pool-small")
        return SimpleNamespace(
            signature=SimpleNamespace(remote=lambda *it: Called(answered(*it))),
            infer=SimpleNamespace(remote=lambda *it: Called(answered(*it))),
        )

    monkeypatch.setattr(remote, "ray_serve", SimpleNamespace(get_deployment_handle=handle))
    member = RemoteMember("fine", Place("digits", "small"), None, 30.0, loop)
    assert member.compute(_X)["y"].tolist() == [2, 4]
    assert asked == [("digits", None), ("digits", InferRequest)]
