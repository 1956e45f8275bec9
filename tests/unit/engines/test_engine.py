import pytest

from serve.engines.engine import Engine, EngineOptions
from serve.engines.loading import load


def _promised():
    """Return the names that the protocol promises: attributes, properties and methods."""
    return {name for name in {*vars(Engine), *Engine.__annotations__} if not name.startswith("_")}


@pytest.mark.parametrize("made", ["many_signatures", "keras_file"])
def test_what_is_loaded_has_all_that_the_rest_of_strata_knows_engines_by(request, made):
    engine = load(request.getfixturevalue(made), EngineOptions())
    assert {"infer", "warmup", "signatures", "default_signature"} <= _promised()
    assert {name for name in _promised() if not hasattr(engine, name)} == set()
    assert engine.default_signature in engine.signatures
    for name, signature in engine.signatures.items():
        assert signature.name == name
