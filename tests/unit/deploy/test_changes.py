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


def test_a_pools_models_are_told_apart_and_nothing_of_them_starts_anew():
    a, b, c = ({"name": name, "pool": "p"} for name in "abc")
    pools = {"pools": [{"name": "p", "max_memory_bytes": 5}]}
    changed = {**c, "limits": {"max_body_bytes": 9}, "version_labels": {"stable": 1}}
    assert _text(_deployed(a, c), _deployed(b, changed, **pools)) == {
        "a": "removed",
        "b": "added",
        "c": "changed limits, version_labels",
        "pool-p": "changed max_memory_bytes",
    }
    assert _text(_deployed(a, b), _deployed(a, b)) == dict.fromkeys(
        ["a", "b", "pool-p"], "unchanged"
    )


def test_a_model_that_moves_says_so_and_is_loaded_elsewhere():
    alone, pooled, other = {"name": "a"}, {"name": "a", "pool": "p"}, {"name": "a", "pool": "q"}
    moved = "changed pool; its replicas start anew"
    assert _text(_deployed(alone), _deployed(pooled)) == {"a": moved, "pool-p": "added"}
    assert _text(_deployed(pooled), _deployed(other))["a"] == moved
    assert _text(_deployed(pooled), _deployed(alone)) == {"a": moved, "pool-p": "removed"}


def test_a_pools_cores_restart_its_replicas():
    pool = {"name": "p", "ray_actor_options": {"num_cpus": 2}}
    pooled = {"name": "a", "pool": "p"}
    text = _text(_deployed(pooled), _deployed(pooled, pools=[pool]))
    assert text["a"] == "unchanged"
    assert text["pool-p"].startswith("changed ")
    assert text["pool-p"].endswith("its replicas start anew")
