"""What Ray Serve says of its applications, in two forms."""

import pytest

from serve.deploy.application_status import ApplicationState, read_state
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
