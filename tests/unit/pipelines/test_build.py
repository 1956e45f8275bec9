import pytest

from serve.config.pipelines import PIPELINE
from serve.errors import ConfigError, RepositoryError
from serve.pipelines.build import build
from tests.unit.pipelines.fakes import Fake, always, assemble, infer, sure_of

_CASCADE = {
    "name": "inner",
    "kind": "cascade",
    "layers": [{"model": "a", "exit": {"max_probability": 0.9}}, {"model": "b"}],
}


def test_pipelines_nest():
    tree = {
        "kind": "ensemble",
        "combine": "collect",
        "members": [{"model": "inner"}, {"model": "c"}],
    }
    engine = assemble(tree, always("a", 0), always("b", 1), always("c", 2), pipelines=[_CASCADE])
    outputs = infer(engine, [1, 2])
    assert outputs["inner.layer"].tolist() == [b"a", b"a"]
    assert outputs["c.p"].argmax(axis=1).tolist() == [2, 2]


def test_a_circle_is_refused_with_its_path():
    inner = {"name": "inner", "kind": "sequence", "steps": [{"model": "p"}]}
    outer = {"name": "p", "kind": "sequence", "steps": [{"model": "inner"}]}
    with pytest.raises(ConfigError, match="p -> inner -> p goes round in a circle"):
        assemble({"kind": "sequence", "steps": [{"model": "inner"}]}, pipelines=[inner, outer])


def test_models_are_asked_for_by_label_name_and_version_in_the_order_of_their_use():
    asked = []

    def find(label, model, version):
        asked.append((label, model, version))
        return always(label, 0)

    tree = {
        "name": "p",
        "kind": "switch",
        "by": {"model": "coarse", "name": "chooser"},
        "branches": {"0": {"model": "fine", "version": 4}, "1": {"model": "fine", "name": "odd"}},
        "default": {"model": "rest"},
    }
    build(PIPELINE.validate_python(tree), {}, find)
    assert asked == [
        ("chooser", "coarse", None),
        ("fine", "fine", 4),
        ("odd", "fine", None),
        ("rest", "rest", None),
    ]


def test_a_nested_pipeline_is_given_its_rows_without_padding():
    a, b = Fake("a", sure_of(1)), always("b", 1)
    tree = {"kind": "sequence", "steps": [{"model": "inner"}]}
    engine = assemble(tree, a, b, pipelines=[_CASCADE])
    infer(engine, [1, 2, 3])
    assert (a.rows, b.rows) == ([1, 2, 3], [2, 3])


def test_a_nested_pipeline_is_given_as_many_rows_as_a_batch_of_the_one_around_it_holds():
    a, b = Fake("a", sure_of()), always("b", 1)
    tree = {"kind": "sequence", "steps": [{"model": "inner"}], "batching": {"max_batch_size": 2}}
    outputs = infer(assemble(tree, a, b, pipelines=[_CASCADE]), range(5))
    assert [len(seen["x"]) for seen in b.seen] == [2, 2, 1]
    assert outputs["p"].argmax(axis=1).tolist() == [1] * 5


def test_each_layer_has_its_own_rule_and_threshold():
    tree = {
        "kind": "cascade",
        "layers": [
            {"model": "a", "exit": {"entropy": 0.5}},
            {"model": "b", "exit": {"margin": 0.25}, "deadline_s": 3},
            {"model": "c"},
        ],
        "on_timeout": "fail",
    }
    engine = assemble(tree, *(always(label, 0) for label in "abc"))
    rules = [layer.rule for layer in engine.kind.layers]
    assert [(rule.rule, rule.threshold, rule.deadline_s) for rule in rules] == [
        ("entropy", 0.5, None),
        ("margin", 0.25, 3),
        (None, 0, None),
    ]
    engine.close()


def test_a_model_that_cannot_be_found_ends_the_building():
    def find(label, model, version):
        raise RepositoryError(f"there is no model {model}")

    with pytest.raises(RepositoryError, match="there is no model a"):
        build(PIPELINE.validate_python(_CASCADE), {}, find)
