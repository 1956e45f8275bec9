"""What Ray Serve tells of applications; that they are asked seldom is seen through the gateway."""

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import RayError

from serve.errors import ModelNotReady
from serve.replica import application_states
from serve.replica.application_states import ApplicationStates, State


@pytest.fixture
def told(monkeypatch):
    """What Ray Serve tells of `digits`; it raises what `error` holds."""
    deployment = SimpleNamespace(replica_states={}, message="")
    app = SimpleNamespace(
        status=SimpleNamespace(value="RUNNING"), deployments={"model": deployment}, message=""
    )
    fake = SimpleNamespace(app=app, model=deployment, error=None)

    def status():
        if fake.error:
            raise fake.error
        return SimpleNamespace(applications={"digits": app})

    monkeypatch.setattr(application_states, "ray_serve", SimpleNamespace(status=status))
    monkeypatch.setattr(application_states, "_TTL_S", 0.0)
    return fake


def _digits(states):
    return asyncio.run(states.known())["digits"]


def test_a_model_without_replicas_that_runs_is_asleep_and_may_be_asked(told):
    states = ApplicationStates()
    assert _digits(states) == State("RUNNING", is_asleep=True)
    assert asyncio.run(states.is_asleep("digits"))
    assert not asyncio.run(states.is_asleep("another"))
    asyncio.run(states.require_answers("digits"))
    told.model.replica_states = {"RUNNING": 1, "STARTING": 0}
    assert _digits(states) == State("RUNNING")
    told.app.deployments = {}
    assert _digits(states) == State("RUNNING"), "not known yet"


def test_a_model_that_failed_is_refused_with_the_sentence_of_its_replica(told):
    told.app.status.value = "DEPLOY_FAILED"
    told.model.message = "Traceback:\nserve.errors.RepositoryError: no version"
    states = ApplicationStates()
    with pytest.raises(ModelNotReady, match=r"^model 'digits' is DEPLOY_FAILED: no version$"):
        asyncio.run(states.require_answers("digits"))
    with pytest.raises(ModelNotReady, match="model 'another' is not deployed; see strata status"):
        asyncio.run(states.require_answers("another"))
    told.model.replica_states = {"RUNNING": 1}
    asyncio.run(states.require_answers("digits"))


def test_what_was_known_last_counts_while_ray_does_not_tell(told):
    states = ApplicationStates()
    told.error = RayError("the head is away")
    assert asyncio.run(states.known()) is None
    asyncio.run(states.require_answers("digits"))
    told.error = None
    before = _digits(states)
    told.error = RayError("the head is away")
    assert _digits(states) is before
    assert states.faults.take() == 0


@pytest.mark.parametrize(
    ("status", "replicas", "must"),
    [
        ("RUNNING", {}, True),  # it sleeps
        ("RUNNING", {"STARTING": 1}, True),  # it wakes
        ("DEPLOYING", {"STARTING": 1}, True),
        ("DEPLOYING", {"STOPPING": 1, "STARTING": 1}, True),
        ("DEPLOYING", {"UPDATING": 1, "STARTING": 1}, False),
        ("RUNNING", {"RUNNING": 1, "STARTING": 1}, False),
        ("DEPLOY_FAILED", {}, False),
        ("UNHEALTHY", {"STARTING": 1}, False),
    ],
)
def test_a_replica_must_start_where_none_answers_and_one_will(told, status, replicas, must):
    told.app.status.value, told.model.replica_states = status, replicas
    assert asyncio.run(ApplicationStates().must_start("digits")) is must


def test_a_model_is_waited_for_while_it_is_deployed_and_no_longer_than_allowed(told, monkeypatch):
    monkeypatch.setattr(application_states, "_POLL_S", 0.001)
    told.app.status.value = "DEPLOYING"
    states = ApplicationStates()
    asyncio.run(states.until_deployed("digits", 0.01))

    async def deployed_meanwhile():
        waiting = asyncio.create_task(states.until_deployed("digits", 60))
        await states.known()
        assert not waiting.done()
        told.app.status.value = "RUNNING"
        await waiting

    asyncio.run(deployed_meanwhile())
    asyncio.run(states.until_deployed("another", 60))
