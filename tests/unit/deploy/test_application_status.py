"""What Ray Serve says of its applications, and the wait until they run."""

import pytest

from serve.deploy.application_status import ApplicationState, read_state, wait_until_running
from serve.errors import ModelNotReady, RepositoryError

TRACEBACK = """\
The deployment failed to start 3 times in a row.
Traceback (most recent call last):
  File "worker.pyx", line 1, in ray._raylet.execute_task
serve.errors.RepositoryError: model 'digits' has no version
  to serve
ray.exceptions.RayTaskError: more of Ray's"""


def state(name, status="RUNNING", message=""):
    return ApplicationState(name, status, message, 1, 1)


def waits(*looks, wanted=("gateway", "digits"), timeout_s=60.0):
    """Wait on what is seen look by look; the last look stays as it is."""
    seen = iter(looks)
    last = [{}]

    def read():
        last[0] = {each.name: each for each in next(seen, last[0].values())}
        return last[0]

    wait_until_running(read, wanted, timeout_s, see="strata status", poll_s=0)


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


def test_the_wait_ends_once_all_run():
    waits([], [state("gateway"), state("digits", "DEPLOYING")], [state("gateway"), state("digits")])


@pytest.mark.parametrize(
    ("seen", "pending"),
    [
        ([state("gateway")], r"digits \(not deployed\)"),
        ([state("gateway"), state("digits", "DEPLOYING")], r"digits \(DEPLOYING\)"),
        ([state("gateway"), state("digits"), state("old")], r"old \(to be removed\)"),
        # One that goes is waited for whatever it is doing: what was wanted came before.
        ([state("gateway"), state("digits"), state("old", "DEPLOY_FAILED")], r"old \(to be"),
    ],
)
def test_what_is_still_to_come_is_named_when_the_time_is_up(seen, pending):
    with pytest.raises(ModelNotReady, match=f"^not ready after 0 s: {pending}.*see strata status"):
        waits(seen, timeout_s=0)


def test_a_model_that_cannot_be_deployed_ends_the_wait_with_its_reason():
    failed = state("digits", "DEPLOY_FAILED", TRACEBACK)
    with pytest.raises(RepositoryError, match=r"^model 'digits': model 'digits' has no version$"):
        waits([state("gateway"), state("digits", "DEPLOYING")], [state("gateway"), failed])


def test_an_unhealthy_model_is_waited_for_unless_that_is_a_failure():
    sick = {"digits": state("digits", "UNHEALTHY", "it died")}
    with pytest.raises(ModelNotReady):
        wait_until_running(lambda: sick, ["digits"], 0, see="strata status", poll_s=0)
    with pytest.raises(RepositoryError, match="it died"):
        wait_until_running(
            lambda: sick, ["digits"], 60, see="strata status", failed={"UNHEALTHY"}, poll_s=0
        )
