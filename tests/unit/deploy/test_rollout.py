"""The wait until the applications run."""

from dataclasses import replace

import pytest

from serve.deploy.application_status import ApplicationState
from serve.deploy.rollout import failed_for_good, wait_until_running, wait_until_settled
from serve.errors import ModelNotReady, RepositoryError

REFUSED = """Traceback (most recent call last):
serve.errors.RepositoryError: model 'digits' has no version"""


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
    failed = state("digits", "DEPLOY_FAILED", REFUSED)
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


def _settled(*seen, timeout_s=60.0):
    seen = iter(seen)
    last = [{}]

    def read():
        last[0] = {each.name: each for each in next(seen, last[0].values())}
        return last[0]

    wanted = ["gateway", "digits"]
    return wait_until_settled(read, wanted, timeout_s, failed={"DEPLOY_FAILED"}, poll_s=0)


def test_what_fails_is_told_once_all_others_run():
    failed = state("digits", "DEPLOY_FAILED", "no version")
    assert _settled([state("gateway"), state("digits")]) == {}
    seen = ([failed], [state("gateway", "DEPLOYING"), failed], [state("gateway"), failed])
    assert _settled(*seen) == {"digits": "no version"}


def test_what_is_late_is_told_and_not_waited_for():
    seen = [state("gateway"), state("digits", "DEPLOYING")]
    assert _settled(seen, timeout_s=0) == {"digits": "not ready after 0 s"}


def test_given_up_is_what_failed_and_of_which_nothing_runs():
    states = {
        "a": replace(state("a", "DEPLOY_FAILED", "no version"), running_replicas=0),
        "b": replace(state("b", "DEPLOY_FAILED", "no version"), running_replicas=1),
        "c": state("c"),
        "d": replace(state("d", "DEPLOY_FAILED", "no version"), running_replicas=0),
    }
    assert failed_for_good(states, {"a", "b", "c"}) == {"a": "no version"}
