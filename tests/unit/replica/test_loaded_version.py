"""How a version comes to serve: its engine is warm, and closed where it does not get that far."""

from dataclasses import replace

import pytest

from serve.config.schema import Model as ModelConfig
from serve.errors import InferenceFailed, InvalidRequest, RepositoryError
from serve.replica.loaded_version import load_version
from tests.unit.replica.fakes import Doubler, Versions
from tests.unit.telemetry.fakes import FakeRecorder


def _load(source, number=1):
    config = ModelConfig(name="digits", batching={"max_batch_size": 4})
    return load_version(config, source, FakeRecorder(), number, "as it lies there")


def test_a_version_is_loaded_warm_with_its_revision():
    engine = Doubler()
    loaded = _load(Versions({1: engine}))
    assert (loaded.number, loaded.revision, loaded.monitor) == (1, "as it lies there", None)
    assert engine.warm_sizes == (1, 2, 4)
    loaded.close()
    assert engine.is_closed


class _Cold(Doubler):
    def warmup(self, batch_sizes):
        raise InferenceFailed("out of memory")


def test_an_engine_that_cannot_be_warmed_is_closed():
    engine = _Cold()
    with pytest.raises(InferenceFailed, match="out of memory"):
        _load(Versions({1: engine}))
    assert engine.is_closed


@pytest.mark.parametrize(
    ("error", "is_loaded"),
    [(OSError(5, "Input/output error"), False), (RepositoryError("x"), True)],
)
def test_a_baseline_that_is_away_fails_the_version_and_a_broken_one_leaves_it(error, is_loaded):
    def baseline(version, signatures):
        raise error

    engine = Doubler()
    source = Versions({1: engine})
    source.baseline = baseline
    if is_loaded:
        assert _load(source).monitor is None
    else:
        with pytest.raises(OSError, match="Input/output error"):
            _load(source)
    assert engine.is_closed is not is_loaded


def test_a_signature_is_the_default_one_unless_it_is_named():
    engine = Doubler()
    (default,) = engine.signatures.values()
    engine.signatures = {"other": replace(default, name="other"), "serving_default": default}
    loaded = _load(Versions({1: engine}))
    assert loaded.signature(None) is default
    assert loaded.signature("other").name == "other"
    with pytest.raises(InvalidRequest, match=r"available: other, serving_default"):
        loaded.signature("third")
