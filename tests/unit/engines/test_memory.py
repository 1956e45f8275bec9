"""Versions that went are freed: told by references to what they held, and by what is in use."""

import gc
import shutil
import weakref
from pathlib import Path

import pytest

from serve.engines import tensorflow_engine
from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.engines.memory import release


@pytest.fixture
def closed(monkeypatch):
    """Close an engine and wait until its memory was released."""
    threads = []
    monkeypatch.setattr(
        tensorflow_engine,
        "release_soon",
        lambda soon=tensorflow_engine.release_soon: threads.append(soon()),
    )

    def close(engine):
        engine.close()
        threads.pop().join(60)

    return close


@pytest.fixture
def frozen():
    """What is alive is frozen during a test, as Ray Serve freezes it in a replica."""

    def freeze():
        gc.collect()
        gc.freeze()

    yield freeze
    gc.unfreeze()


def _variables(engine):
    """Return references to everything that is large in an engine; none keeps it alive."""
    functions = engine._compiled.values()
    return [weakref.ref(variable) for f in functions for variable in f.variables]


@pytest.fixture(params=["savedmodel", "keras"])
def model(request, many_signatures, keras_file, tmp_path):
    if request.param == "savedmodel":
        return shutil.copytree(many_signatures, tmp_path / "copy")
    return keras_file


def test_no_version_that_was_closed_is_alive_after_it_although_its_engine_is(model, closed):
    engines, references = [], []
    for _ in range(3):
        engines.append(load(model, EngineOptions()))
        engines[-1].warmup((1, 2))
        references += _variables(engines[-1])
        closed(engines[-1])
    assert [reference() for reference in references] == [None] * len(references)


def test_a_version_that_was_frozen_with_the_replicas_start_is_freed_too(model, closed, frozen):
    engine = load(model, EngineOptions())
    engine.warmup((1,))
    references = _variables(engine)
    frozen()
    closed(engine)
    assert [reference() for reference in references] == [None] * len(references)
    assert gc.get_freeze_count() > 0


def test_what_was_not_frozen_is_not_after_it():
    gc.unfreeze()
    release()
    assert gc.get_freeze_count() == 0


def test_twelve_versions_of_16_mb_take_the_room_of_two(tmp_path, closed):
    import tensorflow as tf

    module = tf.Module()
    module.w = tf.Variable(tf.ones([4096, 1024]))
    text = [tf.TensorSpec([None], tf.int32, "x")]
    module.f = tf.function(
        lambda x: {"y": tf.reduce_sum(tf.gather(module.w, x), 1)}, input_signature=text
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    sizes, before = [], None
    for _ in range(12):
        engine = load(tmp_path, EngineOptions())
        engine.warmup((1, 2))
        if before is not None:
            closed(before)
        before = engine
        sizes.append(_resident_mb())
    assert sizes[-1] - sizes[2] < 3 * 16  # nine versions would be 144 MB


def _resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
