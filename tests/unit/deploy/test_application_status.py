"""What Ray Serve says of its applications, in two forms."""

import pytest

from serve.deploy.application_status import ApplicationState, member_states, read_state
from serve.protocols.metadata_v2 import AWAITED, RESTING
from tests.unit.replica.test_failure_reason import TRACEBACK


def state(name, status="RUNNING", message=""):
    return ApplicationState(name, status, message, 1, 1)


def test_the_rest_api_tells_running_and_wanted_replicas():
    replicas = [{"state": "RUNNING"}, {"state": "STARTING"}, {"state": "RUNNING"}]
    deployment = {"replicas": replicas, "target_num_replicas": 4, "message": "busy"}
    tree = {"status": "DEPLOYING", "message": "soon", "deployments": {"model": deployment}}
    assert read_state("digits", tree) == ApplicationState("digits", "DEPLOYING", "soon\nbusy", 2, 4)


def test_a_ray_service_tells_the_same_but_for_replicas():
    tree = {
        "status": "DEPLOYING",
        "message": "soon",
        "serveDeploymentStatuses": {"model": {"status": "UPDATING", "message": "busy"}},
    }
    assert read_state("digits", tree) == ApplicationState("digits", "DEPLOYING", "soon\nbusy", 0, 0)


@pytest.mark.parametrize("tree", [{}, {"status": "DEPLOYING", "deployments": {}}])
def test_an_application_that_has_only_begun_can_be_read(tree):
    assert read_state("digits", tree).message == ""


def test_the_reason_is_the_sentence_for_people():
    message = f"it failed\n{TRACEBACK}"
    assert state("digits", message=message).reason == "model 'digits' has no version"


def _pool(status="RUNNING", **numbers):
    numbers = {"running_replicas": 1, "target_replicas": 1, **numbers}
    return ApplicationState("pool-p", status, "said", **numbers)


def test_a_model_in_a_pool_is_as_its_pool_unless_the_index_knows_better():
    index = {
        "ready": [{"state": "READY", "version": "1"}, {"state": "UNAVAILABLE", "reason": "old"}],
        "rests": [{"state": "UNAVAILABLE", "version": "1", "reason": RESTING}],
        "broken": [{"state": "UNAVAILABLE", "version": "1", "reason": "no graph"}],
        "awaited": [{"state": "UNAVAILABLE", "reason": f"model 'awaited' {AWAITED}"}],
    }
    pools = {**dict.fromkeys(index, "p"), "elsewhere": "not-deployed"}
    found = member_states({"pool-p": _pool()}, pools, index)
    assert {name: (s.status, s.pool) for name, s in found.items()} == {
        "ready": ("RUNNING", "p"),
        "rests": ("RESTING", "p"),
        "broken": ("UNAVAILABLE", "p"),
        "awaited": ("WAITING", "p"),
    }
    assert found["broken"].reason == "no graph"
    for state, known in [(_pool("DEPLOYING"), index), (_pool(), {})]:
        found = member_states({"pool-p": state}, pools, known)
        assert {each.status for each in found.values()} == {state.status}
    asleep = member_states({"pool-p": _pool(running_replicas=0, target_replicas=0)}, pools, index)
    assert all(each.is_asleep for each in asleep.values())
