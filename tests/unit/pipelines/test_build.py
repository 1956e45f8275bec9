import pytest

from serve.errors import ConfigError
from tests.unit.pipelines.fakes import always, assemble, infer


def test_pipelines_nest():
    inner = {
        "name": "inner",
        "kind": "cascade",
        "layers": [{"model": "a", "exit": {"max_probability": 0.9}}, {"model": "b"}],
    }
    tree = {
        "kind": "ensemble",
        "combine": "collect",
        "members": [{"model": "inner"}, {"model": "c"}],
    }
    engine = assemble(tree, always("a", 0), always("b", 1), always("c", 2), pipelines=[inner])
    outputs = infer(engine, [1, 2])
    assert outputs["inner.layer"].tolist() == [b"a", b"a"]
    assert outputs["c.p"].argmax(axis=1).tolist() == [2, 2]


def test_a_circle_is_refused_with_its_path():
    inner = {"name": "inner", "kind": "sequence", "steps": [{"model": "p"}]}
    outer = {"name": "p", "kind": "sequence", "steps": [{"model": "inner"}]}
    with pytest.raises(ConfigError, match="p -> inner -> p goes round in a circle"):
        assemble({"kind": "sequence", "steps": [{"model": "inner"}]}, pipelines=[inner, outer])
