"""Variables that are read here and not by TensorFlow: the same values, whatever holds them.

What is large is a matter of bytes; here a few of them are.
"""

import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from serve.engines import large_variables
from serve.engines.large_variables import load_large
from serve.repository import hashes
from serve.repository.progress import heard_by


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch):
    monkeypatch.setattr(large_variables, "LARGE_BYTES", 1)
    monkeypatch.setattr(large_variables, "_OWN_BYTES", 32)
    monkeypatch.setattr(hashes, "_SETTLED_S", -1.0)
    monkeypatch.setattr(hashes, "_known", {})


_TYPES = (
    *("float16", "float32", "float64", "bfloat16", "bool", "complex64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


@pytest.fixture(scope="module")
def nested(folder, tf):
    """A SavedModel with variables of many types in lists, dicts and modules, one of them twice."""
    chance = np.random.default_rng(5)
    inner = tf.Module()
    inner.typed = {
        name: tf.Variable(tf.cast(chance.integers(0, 100, (9, 7)), name), name=name)
        for name in _TYPES
    }
    inner.few = [tf.Variable(3.5), tf.Variable([1, 2, 3])]
    module = tf.Module()
    module.inner = inner
    module.again = inner.typed["float32"]
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(["a"], tf.constant([7], tf.int64)), -1
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "x")])
    def serve(x):
        found = tf.cast(module.table.lookup(x), tf.float32)
        everything = [tf.cast(v, tf.float32) for v in inner.typed.values()]
        rows = tf.stack(everything) * inner.few[0]
        return {"y": found, **{name: rows[i] for i, name in enumerate(inner.typed)}}

    module.serve = serve
    path = folder / "nested"
    tf.saved_model.save(module, str(path), signatures=serve)
    return path


def _same(tf, one, other, **inputs):
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    expected, got = (each.signatures["serving_default"](**tensors) for each in (one, other))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert value.numpy().tobytes() == got[name].numpy().tobytes(), name


def test_variables_of_every_type_have_the_values_that_tensorflow_reads(nested, tf):
    loaded = load_large(nested)
    plain = tf.saved_model.load(str(nested))
    _same(tf, plain, loaded, x=["a", "b"])
    assert loaded.again is loaded.inner.typed["float32"]


def test_a_model_that_keras_exported_computes_the_same(folder, tf):
    import keras

    inputs = keras.layers.Input((8,), name="x")
    hidden = keras.layers.Dense(16, activation="relu")(inputs)
    normal = keras.layers.BatchNormalization()(hidden)
    model = keras.Model(inputs, {"y": keras.layers.Dense(3)(normal)})
    path = folder / "exported"
    model.export(str(path), verbose=False)
    rows = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    _same(tf, tf.saved_model.load(str(path)), load_large(path), x=rows)


def test_each_file_of_variables_is_read_once_and_its_hash_is_known_then(nested):
    told = []
    with heard_by(lambda *each: told.append(each)):
        load_large(nested)
    sizes = sum(file.stat().st_size for file in (nested / "variables").glob("*.data-*"))
    index = (nested / "variables" / "variables.index").read_bytes()
    tensors = sum(p.bytes for k, p in large_variables.tensor_places(index).items() if b"VALUE" in k)
    assert told[-1] == ("reading", tensors, tensors)
    assert tensors < sizes
    told.clear()
    with heard_by(lambda *each: told.append(each)):
        for file in (nested / "variables").glob("*.data-*"):
            assert hashes.sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not told


def test_an_empty_variable_is_as_it_was(folder, tf):
    module = tf.Module()
    module.empty = tf.Variable(tf.zeros([0, 3]))
    module.scale = tf.Variable(tf.range(100.0))
    module.f = tf.function(
        lambda x: {"y": x * module.scale, "n": tf.shape(module.empty + 1.0)},
        input_signature=[tf.TensorSpec([None, 100], tf.float32, "x")],
    )
    path = folder / "empty"
    tf.saved_model.save(module, str(path), signatures=module.f)
    _same(tf, tf.saved_model.load(str(path)), load_large(path), x=np.ones((2, 100), np.float32))


def _gathering(tf):
    module = tf.Module()
    module.rows = tf.Variable(tf.ones([200, 4]))
    module.f = tf.function(
        lambda x: {"y": tf.gather(module.rows, x)},
        input_signature=[tf.TensorSpec([None], tf.int32, "x")],
    )
    return module


def _sliced(tf):
    module = tf.Module()
    module.one, module.other = tf.Variable(tf.ones([64])), tf.Variable(tf.ones([64]))
    module.f = tf.function(
        lambda x: {"y": x * module.one * module.other},
        input_signature=[tf.TensorSpec([None, 64], tf.float32, "x")],
    )
    return module


def _counting(tf):
    module = tf.Module()
    module.total = tf.Variable(tf.zeros([64]))
    module.f = tf.function(
        lambda x: {"y": module.total.assign_add(tf.ones([64]) * tf.reduce_sum(x))},
        input_signature=[tf.TensorSpec([None], tf.float32, "x")],
    )
    return module


def _with_a_word(tf):
    module = tf.Module()
    module.word = tf.Variable(["a", "longer one"])
    module.f = tf.function(
        lambda x: {"y": x + tf.strings.join([module.word[0]])},
        input_signature=[tf.TensorSpec([None], tf.string, "x")],
    )
    return module


def _with_a_table(tf):
    module = tf.Module()
    module.table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
    module.table.insert([1], [2])
    module.scale = tf.Variable(tf.ones([64], tf.int64))
    module.f = tf.function(
        lambda x: {"y": module.table.lookup(x) * module.scale[0]},
        input_signature=[tf.TensorSpec([None], tf.int64, "x")],
    )
    return module


@pytest.mark.parametrize("made", [_with_a_word, _with_a_table, _counting, _gathering, _sliced])
def test_what_is_more_than_plain_variables_that_are_read_whole_is_left_to_tensorflow(
    made, folder, tf
):
    module, path = made(tf), folder / made.__name__
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=300)
    parts = tf.saved_model.SaveOptions(experimental_sharding_callback=policy)
    options = parts if made is _sliced else None
    tf.saved_model.save(module, str(path), signatures=module.f, options=options)
    assert load_large(path) is None


def test_small_models_and_those_of_tensorflow_1_are_left_to_it_too(nested, folder, tf, monkeypatch):
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(v1.float32, [None], "x")
        two = v1.constant_initializer(2.0)
        factor = v1.get_variable("factor", [64], initializer=two, use_resource=True)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder / "v1"), {"x": x}, {"y": x * factor[0]})
    assert load_large(folder / "v1") is None
    monkeypatch.setattr(large_variables, "LARGE_BYTES", 10**6)
    assert load_large(nested) is None


@pytest.mark.parametrize("harm", ["cut off", "missing"])
def test_a_harmed_file_is_left_to_tensorflow_to_tell_of(harm, nested, tmp_path):
    path = shutil.copytree(nested, tmp_path / "harmed")
    shard = sorted((path / "variables").glob("*.data-*"))[-1]
    if harm == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-10])
    assert load_large(path) is None


_SWAP = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from pathlib import Path
from serve.engines import memory
from serve.engines.engine import EngineOptions
from serve.engines.loading import load

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def loaded():
    engine = load(Path(sys.argv[1]), EngineOptions())
    engine.warmup((1, 2))
    return engine

def closed(engine):
    engine.close()
    memory.release()

closed(loaded())  # imports, threads and what TensorFlow keeps of any model
empty = resident_mb()
first = loaded()
one = resident_mb()
second = loaded()
two = resident_mb()
closed(first)
after = resident_mb()
closed(second)
print(empty, one, two, after, resident_mb())
"""


def test_a_version_that_goes_gives_its_memory_back_to_the_machine(folder, tf):
    size_mb = 160
    module = tf.Module()
    module.w = tf.Variable(tf.ones([1000, size_mb * 250]))
    module.f = tf.function(
        lambda x: {"y": tf.reduce_sum(tf.matmul(x, module.w), 1)},
        input_signature=[tf.TensorSpec([None, 1000], tf.float32, "x")],
    )
    path = folder / "heavy" / "1"
    tf.saved_model.save(module, str(path), signatures=module.f)
    _write_manifest(path)
    done = subprocess.run(
        [sys.executable, "-c", _SWAP, str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    empty, one, two, after, none = map(float, done.stdout.split())
    tolerance = 0.25 * size_mb
    assert one - empty == pytest.approx(size_mb, abs=tolerance)
    assert two - empty == pytest.approx(2 * size_mb, abs=tolerance)
    assert after - empty == pytest.approx(size_mb, abs=tolerance)
    assert none - empty == pytest.approx(0, abs=tolerance)
    shutil.rmtree(path)


def _write_manifest(path):
    from serve.repository.layout import MANIFEST
    from serve.repository.manifest import Manifest, record

    files = {
        str(file.relative_to(path)): record(file) for file in path.rglob("*") if file.is_file()
    }
    manifest = Manifest("heavy", 1, "savedmodel", "2026-01-01T00:00:00+00:00", files)
    (path / MANIFEST).write_bytes(manifest.to_json())
