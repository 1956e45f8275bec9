"""What Ray Serve says of its applications, in two forms."""

import pytest

from serve.deploy.application_status import ApplicationState, read_state

TRACEBACK = """\
The deployment failed to start 3 times in a row.
Traceback (most recent call last):
  File "worker.pyx", line 1, in ray._raylet.execute_task
serve.errors.RepositoryError: model 'digits' has no version
  to serve
ray.exceptions.RayTaskError: more of Ray's"""


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


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (TRACEBACK, "model 'digits' has no version"),
        ("Traceback:\n  File 'x'\nImportError: no module\n  named y\n\n", "ImportError: no module"),
        ("waiting for   resources\nof 2 CPUs", "waiting for resources of 2 CPUs"),
        ("", "Ray Serve does not say why"),
    ],
)
def test_the_reason_is_the_sentence_for_people(message, reason):
    assert state("digits", message=message).reason == reason
