"""Kubernetes objects are read as the API gives them, with keys that may be missing."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.cluster.objects import (
    age_s,
    condition,
    containers,
    event_messages,
    event_time,
    is_true,
    one_line,
    phase,
    pod_state,
    release_of,
)
from tests.unit.cluster.releases import NOW, event, pod


def _with_init(state):
    """Return a pod whose init container has that state, and whose own one has not started."""
    found = pod("a", ready=False, state={"waiting": {"reason": "PodInitializing"}}, phase="Pending")
    found["spec"]["initContainers"] = [{"name": "wait", "image": "strata:0.1.0"}]
    found["status"]["initContainerStatuses"] = [{"name": "wait", "ready": False, "state": state}]
    return found


def test_containers_come_in_the_order_in_which_they_start():
    found = containers(_with_init({"running": {}}))
    assert [(each.name, each.is_init) for each in found] == [("wait", True), ("ray", False)]


def test_a_container_of_a_pod_that_was_just_made_is_not_ready_and_has_no_state():
    fresh = {"spec": {"containers": [{"name": "ray"}]}}
    (found,) = containers(fresh)
    assert (found.is_ready, found.restarts, found.image) == (False, 0, "")
    assert (found.waiting, found.terminated, found.last_terminated) == ({}, {}, {})
    assert phase(fresh) == "Unknown"


@pytest.mark.parametrize(
    ("item", "state"),
    [
        (pod("a"), "Running"),
        (pod("a", state={"waiting": {"reason": "CrashLoopBackOff"}}), "CrashLoopBackOff"),
        (_with_init({"waiting": {"reason": "ErrImagePull"}}), "Init:ErrImagePull"),
        (_with_init({"running": {}}), "Pending"),
        (pod("a", state={}, phase="Failed", reason="Evicted"), "Evicted"),
        ({"metadata": {"deletionTimestamp": "2026-11-24T21:10:00Z"}}, "Terminating"),
        ({}, "Unknown"),
    ],
)
def test_a_pod_s_state_is_what_kubectl_calls_it(item, state):
    assert pod_state(item) == state


def test_a_condition_that_is_not_there_is_not_true():
    assert is_true(pod("a"), "Ready")
    assert not is_true(pod("a", ready=False), "Ready")
    assert not is_true({}, "Ready")
    assert condition(pod("a"), "PodScheduled") == {}


def test_events_of_an_object_come_latest_last_whatever_they_were_listed_in():
    events = [
        event("uid-a", "Failed", "latest", "2026-11-24T21:12:00Z"),
        event("uid-a", "Failed", "first", "2026-11-24T21:10:00Z"),
        event("uid-a", "Failed", "between", "2026-11-24T21:11:00Z"),
        event("uid-a", "Pulled", "of another reason"),
        event("uid-of-its-predecessor", "Failed", "of another object"),
    ]
    assert event_messages(events, pod("a"), "Failed") == ["first", "between", "latest"]


@pytest.mark.parametrize(
    "seen",
    [
        {"series": {"lastObservedTime": "2026-11-24T21:15:00Z"}, "eventTime": "2026-11-24T21:10Z"},
        {"lastTimestamp": "2026-11-24T21:15:00Z", "series": None},
        {"lastTimestamp": None, "eventTime": "2026-11-24T21:15:00Z"},
        {"metadata": {"creationTimestamp": "2026-11-24T21:15:00Z"}},
    ],
)
def test_an_event_was_last_seen_when_its_reporter_says_so(seen):
    assert event_time(seen) == "2026-11-24T21:15:00Z"


@given(st.text(), st.integers(3, 40))
def test_any_text_becomes_one_line_of_a_bounded_length(text, limit):
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert line == " ".join(text.split()) or line.endswith("...")


def test_an_object_belongs_to_the_release_of_its_label_or_else_of_its_name():
    labels = {"app.kubernetes.io/instance": "prod"}
    assert release_of({"metadata": {"name": "prod-strata", "labels": labels}}) == "prod"
    assert release_of({"metadata": {"name": "by-hand"}}) == "by-hand"


def test_an_object_s_age_is_in_seconds():
    made = {"metadata": {"creationTimestamp": "2026-11-24T21:29:50Z"}}
    assert age_s(made, NOW) == 10.0
    assert age_s({}, datetime.now(UTC)) == 0.0
