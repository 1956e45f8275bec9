"""What Ray Serve runs: models that do not load, replicas that find no room."""

from serve.cluster.diagnosis import find_problems
from serve.cluster.findings import Kind
from tests.unit.cluster.findings import only
from tests.unit.cluster.releases import (
    SERVICE_UID,
    captured_applications,
    event,
    ray_service,
    running,
    snapshot,
)


def _with(*names, **states):
    applications = {**running("gateway"), **captured_applications(*names), **states}
    return ray_service(applications, ready=False, names=tuple(applications))


def test_a_model_that_does_not_load_speaks_for_itself():
    found = only(snapshot(_with("absent")))
    assert (found.kind, found.subjects) == (Kind.MODEL_NOT_LOADED, ("absent",))
    assert found.problem == (
        "the model does not load: model 'absent' has no version to serve: "
        "its repository folder holds no complete version; publish one"
    )


def test_a_wrong_key_is_named_by_its_path():
    found = only(snapshot(_with("misspelt")))
    assert (found.kind, found.subjects) == (Kind.WRONG_KEY, ("misspelt",))
    assert found.problem == "batching.max_batch_sise: extra inputs are not permitted"


def test_replicas_without_room_say_what_they_need():
    found = only(snapshot(_with("hungry")))
    assert found.kind is Kind.NO_ROOM_FOR_REPLICAS
    assert '"GPU": 1.0} and Ray\'s workers have {"CPU": 1.9}' in found.problem


def test_a_model_that_loads_for_long_is_found():
    said = "has 1 replicas that have taken more than 30s to initialize.\nThis may be caused by"
    found = only(snapshot(_with(digits={"status": "DEPLOYING", "message": said})))
    assert found.kind is Kind.MODEL_DEPLOYING


def test_a_model_that_became_unhealthy_is_found():
    state = {"status": "UNHEALTHY", "message": "The deployments {'model'} are UNHEALTHY."}
    assert only(snapshot(_with(digits=state))).kind is Kind.MODEL_UNHEALTHY


def test_a_configuration_that_ray_serve_refuses_is_found_until_one_is_accepted():
    said = "Failed to update serve applications: err: UpdateDeployments fail: 400 Bad Request no"
    refused = event(SERVICE_UID, "FailedToUpdateServeApplications", said)
    found = only(snapshot(events=[refused]))
    assert found.kind is Kind.CONFIG_REFUSED
    assert "400 Bad Request" in found.problem
    later = event(SERVICE_UID, "UpdatedServeApplications", "ok", "2026-11-24T21:11:00Z")
    assert find_problems(snapshot(events=[refused, later])) == []


def test_a_head_that_does_not_answer_is_not_called_a_refusal():
    said = 'err: Put "http://head:8265/api/serve/applications/": context deadline exceeded'
    failed = event(SERVICE_UID, "FailedToUpdateServeApplications", said, "2026-11-24T21:29:00Z")
    found = only(snapshot(events=[failed]))
    assert found.kind is Kind.HEAD_UNREACHABLE
    assert "context deadline exceeded" in found.problem


def test_a_head_that_did_not_answer_once_is_of_the_past_where_all_that_is_asked_for_runs():
    """Kubernetes drops events of an object that has many, that of the next try's success too."""
    said = 'err: Put "http://head:8265/api/serve/applications/": context deadline exceeded'
    events = [event(SERVICE_UID, "FailedToUpdateServeApplications", said)]
    assert find_problems(snapshot(events=events)) == []
    more = ray_service(running("gateway", "digits"), names=("gateway", "digits", "late"))
    waiting = ray_service(running("gateway", "digits"), ready=False)
    for service in (more, waiting):
        kinds = {found.kind for found in find_problems(snapshot(service, events=events))}
        assert Kind.HEAD_UNREACHABLE in kinds


def test_a_version_that_is_not_served_is_found_though_the_model_answers():
    entries = [
        {"name": "digits", "version": "3", "state": "READY"},
        {"name": "digits", "version": "4", "state": "UNAVAILABLE", "reason": "not whole"},
        {"name": "digits", "version": "5", "state": "LOADING", "reason": "reading 1 of 2 GB"},
    ]
    found = only(snapshot(index={"digits": entries}))
    assert found.kind is Kind.VERSION_NOT_SERVED
    assert found.problem == "version 4 is not served: not whole"
