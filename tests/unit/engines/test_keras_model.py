import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import RepositoryError

_OPTIONS = EngineOptions(num_threads=1)


def _load(path):
    engine = load(path, _OPTIONS)
    return engine, engine.signatures[engine.default_signature]


def _save(model, path):
    model.save(path)
    return path


def test_a_sequential_model_answers_like_keras(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
    engine, signature = _load(_save(model, tmp_path / "m.keras"))
    assert engine.platform == "keras"
    assert [spec.name for spec in signature.inputs] == ["x"]
    assert [(s.name, s.shape) for s in signature.outputs] == [("y", (-1, 2))]
    x = np.random.default_rng(1).random((5, 3)).astype(np.float32)
    expected = model(x).numpy()
    np.testing.assert_allclose(engine.infer(signature.name, {"x": x})["y"], expected, atol=1e-6)


def test_any_batch_size_needs_no_new_trace(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
    engine, signature = _load(_save(model, tmp_path / "m.keras"))
    engine.warmup((1, 2))
    for rows in (1, 2, 3, 50):
        engine.infer(signature.name, {"x": np.ones((rows, 3), np.float32)})
    assert engine.retraces == 0


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_several_inputs_and_outputs_keep_their_names_and_places(tmp_path, suffix):
    import keras

    late, early = keras.Input((2,), name="late"), keras.Input((3,), name="early")
    both = keras.layers.Concatenate()([late, early])
    outputs = [keras.layers.Dense(1, name="one")(both), keras.layers.Dense(4, name="four")(both)]
    model = keras.Model([late, early], outputs)
    engine, signature = _load(_save(model, tmp_path / f"m{suffix}"))
    assert [spec.name for spec in signature.inputs] == ["late", "early"]
    inputs = {"late": np.ones((2, 2), np.float32), "early": np.zeros((2, 3), np.float32)}
    got = engine.infer(signature.name, inputs)
    expected = model([inputs["late"], inputs["early"]])
    np.testing.assert_allclose(got["one"], expected[0], atol=1e-6)
    np.testing.assert_allclose(got["four"], expected[1], atol=1e-6)


def test_inputs_and_outputs_may_be_dictionaries(tmp_path):
    import keras

    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    difference = keras.layers.Subtract()([a, b])
    model = keras.Model({"b": b, "a": a}, {"difference": difference})
    engine, signature = _load(_save(model, tmp_path / "m.keras"))
    inputs = {"a": np.full((1, 1), 5, np.float32), "b": np.full((1, 1), 3, np.float32)}
    assert engine.infer(signature.name, inputs)["difference"].tolist() == [[2]]


def test_a_recurrent_model_takes_sequences_of_any_length(tmp_path):
    import keras

    model = keras.Sequential(
        [
            keras.Input((None, 4), name="steps"),
            keras.layers.Masking(),
            keras.layers.Bidirectional(keras.layers.GRU(3, return_sequences=True)),
            keras.layers.Dense(2, name="y"),
        ]
    )
    engine, signature = _load(_save(model, tmp_path / "m.keras"))
    assert signature.inputs[0].shape == (-1, -1, 4)
    engine.warmup((1, 2))
    for length in (1, 7, 31):
        x = np.random.default_rng(length).random((2, length, 4)).astype(np.float32)
        got = engine.infer(signature.name, {"steps": x})["y"]
        np.testing.assert_allclose(got, model(x).numpy(), atol=1e-5)
    assert engine.retraces == 0


def test_strings_go_in_where_the_vectoriser_is_in_the_model(tmp_path):
    import keras

    vectorise = keras.layers.TextVectorization(vocabulary=["good", "bad"])
    text = keras.Input((), dtype="string", name="text")
    model = keras.Model(text, keras.layers.Embedding(5, 2)(vectorise(text)))
    engine, signature = _load(_save(model, tmp_path / "m.keras"))
    assert [(s.name, s.datatype) for s in signature.inputs] == [("text", "BYTES")]
    words = np.array([b"good bad", b"bad"], object)
    (output,) = engine.infer(signature.name, {"text": words}).values()
    assert output.shape == (2, 2, 2)


def test_an_unnamed_input_has_the_same_name_in_every_process(tmp_path):
    import keras

    for _ in range(3):
        model = keras.Sequential([keras.layers.Dense(1)])
        model.build((None, 2))
        _, signature = _load(_save(model, tmp_path / "m.keras"))
        assert signature.inputs[0].name == "input_layer"


def test_an_old_h5_of_keras_2_loads(tmp_path):
    import tf_keras

    model = tf_keras.Sequential(
        [tf_keras.layers.LSTM(2, input_shape=(None, 3), time_major=False, implementation=1)]
    )
    model.save(tmp_path / "old.h5")
    engine, signature = _load(tmp_path / "old.h5")
    x = np.ones((1, 4, 3), np.float32)
    (got,) = engine.infer(signature.name, {signature.inputs[0].name: x}).values()
    np.testing.assert_allclose(got, model(x).numpy(), atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_file_that_cannot_be_loaded_is_named_with_the_way_out(tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RepositoryError) as caught:
        load(path, _OPTIONS)
    assert str(path) in str(caught.value)
    assert "export it as a SavedModel" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_custom_layer_is_refused_with_its_name(tmp_path):
    import keras

    class Mystery(keras.layers.Layer):
        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((2,)), Mystery()])
    model.save(tmp_path / "m.keras")
    with pytest.raises(RepositoryError, match="Mystery"):
        load(tmp_path / "m.keras", _OPTIONS)
