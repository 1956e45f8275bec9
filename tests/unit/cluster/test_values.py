"""What a release takes from strata.yaml, and how the change is put into words."""

from serve.cluster.values import changes, with_models
from serve.config.schema import Config

_VALUES = {
    "image": {"tag": "1"},
    "repository": {"root": "s3://models"},
    "models": [{"name": "digits"}],
    "pipelines": [{"name": "old"}],
}


def test_models_and_pipelines_are_replaced_and_nothing_else():
    config = Config.model_validate(
        {"repository": {"root": "here"}, "http": {"port": 9000}, "models": [{"name": "parity"}]}
    )
    new = with_models(_VALUES, config)
    assert new == {**_VALUES, "models": [{"name": "parity"}], "pipelines": []}


def test_defaults_that_the_file_leaves_out_stay_out():
    model = {"name": "digits", "version_policy": {"latest": 2}, "batching": {"max_batch_size": 8}}
    steps = [{"model": "digits"}, {"model": "digits", "name": "again"}]
    pipeline = {"name": "twice", "kind": "sequence", "steps": steps}
    config = Config.model_validate({"models": [model], "pipelines": [pipeline]})
    new = with_models({}, config)
    assert new == {"models": [model], "pipelines": [pipeline]}


def test_each_model_is_told_what_becomes_of_it():
    before = {"models": [{"name": "a"}, {"name": "b", "batching": {}}, {"name": "c"}]}
    after = {
        "models": [{"name": "b", "limits": {}, "version_labels": {"stable": 1}}, {"name": "c"}],
        "pipelines": [{"name": "d"}],
    }
    assert list(changes(before, after)) == [
        ("a", "removed"),
        ("b", "changed batching, limits, version_labels"),
        ("c", "unchanged"),
        ("d", "added"),
    ]


def test_a_default_that_is_written_down_changes_nothing():
    before = {"models": [{"name": "a"}, {"name": "b"}]}
    after = {
        "models": [
            {"name": "a", "batching": {"max_batch_size": 64}, "limits": {}},
            {"name": "b", "batching": {"max_batch_size": 32}},
        ]
    }
    assert list(changes(before, after)) == [("a", "unchanged"), ("b", "changed batching")]


def test_a_release_without_models_may_get_some():
    assert list(changes({"models": None}, {"models": [{"name": "a"}]})) == [("a", "added")]


def test_pools_are_taken_too_and_told_apart_from_models_of_their_name():
    tree = {"models": [{"name": "p", "pool": "p"}], "pools": [{"name": "p"}]}
    new = with_models({"models": []}, Config.model_validate(tree))
    assert new == {**tree, "pipelines": []}
    larger = {**tree, "pools": [{"name": "p", "max_memory_bytes": 9}]}
    assert list(changes(tree, larger)) == [
        ("p", "unchanged"),
        ("pool p", "changed max_memory_bytes"),
    ]


def test_a_release_that_has_pools_gets_none_where_the_file_has_none():
    config = Config.model_validate({"models": [{"name": "a"}]})
    assert with_models({"pools": [{"name": "p"}]}, config)["pools"] == []
