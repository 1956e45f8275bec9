"""OpenVINO's numbers are right however an array lies in memory, and stay so."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.engines.openvino_engine import convert, open_function, version
from serve.errors import InferenceFailed, RepositoryError
from serve.types import Signature, TensorSpec
from tests.unit.selection.fakes import SIGNATURE, signature_of, write_ir

_X = np.arange(24, dtype=np.float32).reshape(8, 3)


@pytest.fixture(scope="module")
def infer(tmp_path_factory):
    file = tmp_path_factory.mktemp("ir") / "0.xml"
    write_ir(file)
    return open_function(file, SIGNATURE, EngineOptions())


@pytest.mark.parametrize(
    "x",
    [
        _X,
        _X[::2],
        _X[::-1],
        _X.reshape(3, 8).T,
        np.broadcast_to(np.float32(3), (2, 3)),
        np.frombuffer(_X.tobytes(), np.float32).reshape(8, 3),
        np.frombuffer(b"\0" + _X.tobytes(), np.float32, offset=1).reshape(8, 3),
        _X[:0],
    ],
    ids=["plain", "strided", "reversed", "turned", "broadcast", "read-only", "unaligned", "none"],
)
def test_an_array_is_read_right_however_it_lies(infer, x):
    before = x.copy()
    np.testing.assert_array_equal(infer({"x": x})["y"], before * 2 + 1)
    np.testing.assert_array_equal(x, before)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5))
def test_what_was_returned_is_not_changed_by_a_later_call(infer, sizes):
    given_rows = [np.full((size, 3), index, np.float32) for index, size in enumerate(sizes)]
    returned = [infer({"x": rows})["y"] for rows in given_rows]
    for rows, got in zip(given_rows, returned, strict=True):
        np.testing.assert_array_equal(got, rows * 2 + 1)


def test_what_was_given_may_change_after_the_call(infer):
    x = _X.copy()
    returned = infer({"x": x})["y"]
    x[:] = 0
    np.testing.assert_array_equal(returned, _X * 2 + 1)


def test_threads_may_take_turns(infer):
    found = {}

    def call(factor):
        found[factor] = infer({"x": _X * np.float32(factor)})["y"]

    for factor in range(4):
        thread = threading.Thread(target=call, args=(factor,))
        thread.start()
        thread.join()
    for factor, got in found.items():
        np.testing.assert_array_equal(got, _X * factor * 2 + 1)


def test_several_inputs_and_outputs_of_several_types_go_by_name(tmp_path):
    import openvino
    from openvino import opset13 as ops

    a = ops.parameter([-1], np.int64, name="a")
    b = ops.parameter([-1, -1], np.float64, name="b")
    c = ops.parameter([], np.float32, name="c")
    flag = ops.greater(a, ops.constant(np.int64(2)))
    total = ops.reduce_sum(b, ops.constant([1]))
    scalar = ops.multiply(c, ops.constant(np.float32(2)))
    named = {"a": a, "b": b, "c": c, "flag": flag, "total": total, "scalar": scalar}
    for name, node in named.items():
        node.output(0).set_names({name})
    model = openvino.Model([scalar, total, flag], [c, b, a])
    openvino.save_model(model, str(tmp_path / "0.xml"), compress_to_fp16=False)
    inputs = (
        TensorSpec("a", "INT64", (-1,)),
        TensorSpec("b", "FP64", (-1, -1)),
        TensorSpec("c", "FP32", ()),
    )
    outputs = (
        TensorSpec("flag", "BOOL", (-1,)),
        TensorSpec("total", "FP64", (-1,)),
        TensorSpec("scalar", "FP32", ()),
    )
    signature = Signature("serving_default", inputs, outputs, batched=False)
    infer = open_function(tmp_path / "0.xml", signature, EngineOptions())
    for length in (1, 5, 2):
        b = np.ones((2, length)) / 3
        got = infer({"a": np.array([1, 3]), "b": b, "c": np.float32(4)})
        assert list(got) == ["flag", "total", "scalar"]
        assert got["flag"].tolist() == [False, True]
        np.testing.assert_allclose(got["total"], b.sum(axis=1), rtol=1e-6)
        assert (got["scalar"].shape, got["scalar"].item()) == ((), 8.0)


def test_files_that_do_not_fit_the_signature_are_refused(tmp_path):
    write_ir(tmp_path / "0.xml")
    other = Signature("a", (TensorSpec("z", "FP32", (-1, 3)),), SIGNATURE.outputs, batched=True)
    with pytest.raises(RepositoryError, match="OpenVINO knows no input 'z' in it"):
        open_function(tmp_path / "0.xml", other, EngineOptions())
    none = Signature("a", (), SIGNATURE.outputs, batched=False)
    with pytest.raises(RepositoryError, match="wants 1 inputs, not 0"):
        open_function(tmp_path / "0.xml", none, EngineOptions())
    for data in (b"", b"<net/>"):
        (tmp_path / "0.xml").write_bytes(data)
        with pytest.raises(RepositoryError, match="OpenVINO cannot load it: "):
            open_function(tmp_path / "0.xml", signature_of("FP32"), EngineOptions())


def test_what_openvino_raises_is_said(infer):
    with pytest.raises(InferenceFailed, match="OpenVINO raised while computing: "):
        infer({"x": np.ones((2, 4), np.float32)})


def test_what_openvino_cannot_read_is_not_converted(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(RuntimeError):
        convert(tmp_path, tmp_path / "0.xml")
    assert version()[:2] == "20"


def _openvino(engine, folder):
    """Return functions of OpenVINO for every signature of TensorFlow's engine, by name."""
    functions = {}
    for number, (name, signature) in enumerate(engine.signatures.items()):
        engine.export(name, folder / str(number))
        convert(folder / str(number), folder / f"{number}.xml")
        functions[name] = open_function(folder / f"{number}.xml", signature, EngineOptions())
    return functions


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_keras_files_compute_as_tensorflow_does(tmp_path, ending):
    import keras

    x = keras.Input((None, 2), name="x")
    y = keras.layers.Conv1D(4, 3, padding="same", activation="relu", name="y")(x)
    z = keras.layers.GlobalMaxPooling1D(name="z")(y)
    keras.Model(x, [z, y]).save(tmp_path / f"model.{ending}")
    engine = load(tmp_path / f"model.{ending}", EngineOptions())
    (infer,) = _openvino(engine, tmp_path).values()
    rng = np.random.default_rng(0)
    for rows, length in ((1, 8), (5, 3), (2, 40)):
        given_rows = {"x": rng.normal(size=(rows, length, 2)).astype(np.float32)}
        right = engine.infer(engine.default_signature, given_rows)
        got = infer(given_rows)
        assert list(got) == list(right)
        for name, array in right.items():
            assert got[name].dtype == array.dtype
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5)


def test_every_signature_of_a_saved_model_computes_as_tensorflow_does(tmp_path):
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 2], tf.float64, name="x"),
                tf.TensorSpec([None], tf.int32, name="n"),
            ]
        )
        def mixed(self, x, n):
            return {"z": x * 2, "a": n - 3, "is_large": x[:, 0] > 0.5}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.bool, name="b"),
                tf.TensorSpec([None], tf.uint8, name="u"),
                tf.TensorSpec([], tf.float32, name="s"),
            ]
        )
        def scaled(self, b, u, s):
            return {"y": tf.where(b, tf.cast(u, tf.float32) * s, -s)}

    module = Module()
    signatures = {"serving_default": module.mixed, "scaled": module.scaled}
    tf.saved_model.save(module, str(tmp_path / "model"), signatures)
    engine = load(tmp_path / "model", EngineOptions())
    functions = _openvino(engine, tmp_path)
    given_inputs = {
        "serving_default": {"x": np.array([[0.1, -2], [0.7, 3]]), "n": np.array([-5, 9], np.int32)},
        "scaled": {
            "b": np.array([True, False]),
            "u": np.array([255, 3], np.uint8),
            "s": np.array(0.5, np.float32),
        },
    }
    for name, inputs in given_inputs.items():
        right, got = engine.infer(name, inputs), functions[name](inputs)
        assert list(got) == list(right)
        for key, array in right.items():
            assert got[key].dtype == array.dtype
            np.testing.assert_allclose(got[key], array, rtol=1e-6)
