"""Apply waits for the new configuration, not for what was true before it."""

import pytest

from serve.cluster import rollout
from serve.errors import ConfigError, ModelNotReady, RepositoryError
from tests.unit.cluster.fakes import FakeConnection
from tests.unit.cluster.releases import (
    SERVICE_UID,
    captured_applications,
    event,
    ray_service,
    running,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(rollout, "_POLL_S", 0.01)
    monkeypatch.setattr(rollout, "_SETTLE_S", 0.05)


def _change(connection, *names, **applications):
    """Let a release ask for other applications, of which it says this."""
    said = {**running(*names), **applications}
    connection.services = [ray_service(said, names=tuple(said))]


def _wait(connection, before, timeout_s=0.3):
    rollout.wait(connection, "models", "strata", before, timeout_s)


def _handed_on(when="2026-11-24T21:20:00Z"):
    return event(SERVICE_UID, "UpdatedServeApplications", "Updated serve applications", when)


def test_a_change_that_was_handed_on_and_runs_is_done():
    connection = FakeConnection()
    before = rollout.mark(connection, "models", "strata")
    _change(connection, "gateway", "digits", "parity")
    connection.found_events = [_handed_on()]
    _wait(connection, before)


def test_an_old_running_is_not_believed():
    connection = FakeConnection()
    connection.found_events = [_handed_on()]
    before = rollout.mark(connection, "models", "strata")
    _change(connection, "gateway", "digits", "parity")
    with pytest.raises(ModelNotReady, match=r"parity \(NOT_HANDED_ON\); see strata doctor strata"):
        _wait(connection, before)
    connection.found_events = [_handed_on("2026-11-24T21:25:00Z")]  # the same event, seen again
    _wait(connection, before)


def test_no_change_needs_no_event():
    connection = FakeConnection()
    _wait(connection, rollout.mark(connection, "models", "strata"))


def test_an_application_that_is_still_being_removed_is_waited_for():
    connection = FakeConnection()
    before = rollout.mark(connection, "models", "strata")
    connection.services = [ray_service(running("gateway", "digits"), names=("gateway",))]
    connection.found_events = [_handed_on()]
    with pytest.raises(ModelNotReady):
        _wait(connection, before)


def test_a_model_that_cannot_load_ends_the_wait_with_its_message():
    connection = FakeConnection()
    before = rollout.mark(connection, "models", "strata")
    _change(connection, "gateway", **captured_applications("absent"))
    connection.found_events = [_handed_on()]
    with pytest.raises(RepositoryError, match="model 'absent': model 'absent' has no version"):
        _wait(connection, before, 5)


def test_a_failure_from_before_the_change_is_not_believed_either():
    connection = FakeConnection(ray_service(captured_applications("absent"), names=("absent",)))
    before = rollout.mark(connection, "models", "strata")
    _change(connection, "gateway", **captured_applications("absent"))
    with pytest.raises(ModelNotReady):
        _wait(connection, before)


def test_a_configuration_that_ray_serve_refuses_ends_the_wait():
    connection = FakeConnection()
    before = rollout.mark(connection, "models", "strata")
    _change(connection, "gateway", "digits", "parity")
    said = "Failed to update: err: fail to create: err: UpdateDeployments fail: 400 Bad Request no"
    connection.found_events = [event(SERVICE_UID, "FailedToUpdateServeApplications", said)]
    with pytest.raises(
        ConfigError, match="Ray Serve refused the configuration: 400 Bad Request no"
    ):
        _wait(connection, before, 5)


def test_a_head_that_does_not_answer_yet_is_waited_for():
    connection = FakeConnection()
    before = rollout.mark(connection, "models", "strata")
    _change(connection, "gateway", "digits", "parity")
    said = "Failed to update: err: Put http://head: connect: connection refused"
    connection.found_events = [
        event(SERVICE_UID, "FailedToUpdateServeApplications", said),
        _handed_on("2026-11-24T21:21:00Z"),
    ]
    _wait(connection, before)
