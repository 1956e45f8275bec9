import copy

import pytest

from serve.config.schema import Config
from serve.deploy.applications import deploy_config
from serve.deploy.changes import changes

_MODEL = {"name": "m", "version_labels": {"stable": 1}}


def _deployed(*models, **tree):
    return deploy_config(Config.model_validate({"models": list(models), **tree}))


def _running(config):
    """Return a deploy config as Ray Serve has it: with a key of its own."""
    logs = {"logging_config": {"enable_access_log": False}}
    return {each["name"]: copy.deepcopy(each) | logs for each in config["applications"]}


def _text(old, new):
    return {change.name: change.text for change in changes(_running(old), new)}


def test_models_come_go_and_stay():
    old = _deployed({"name": "a"}, {"name": "b"})
    new = _deployed({"name": "b"}, {"name": "c"})
    assert _text(old, new) == {"a": "removed", "b": "unchanged", "c": "added"}


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("version_labels", {"stable": 2}, "changed version_labels"),
        ("version_policy", {"all": True}, "changed version_policy"),
        ("autoscaling", {"max_replicas": 3}, "changed autoscaling"),
        ("slo", {"availability": 99.9}, "changed slo"),
        ("limits", {"max_body_bytes": 9}, "changed limits; its replicas start anew"),
        ("limits", {"max_queued_requests": 9}, "changed limits; its replicas start anew"),
        (
            "ray_actor_options",
            {"num_cpus": 2},
            "changed ray_actor_options; its replicas start anew",
        ),
        ("batching", {"max_batch_size": 64}, "unchanged"),
    ],
)
def test_a_change_names_its_keys_and_whether_replicas_start_anew(key, value, text):
    assert _text(_deployed(_MODEL), _deployed({**_MODEL, key: value})) == {"m": text}


def test_what_all_models_have_in_common_changes_each():
    old, new = _deployed(_MODEL), _deployed(_MODEL, access_log=True)
    assert _text(old, new) == {"m": "changed access_log"}


def test_what_is_not_known_counts_as_changed():
    assert [each.text for each in changes({"m": None}, _deployed(_MODEL))] == ["changed"]
