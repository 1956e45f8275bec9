"""Real models, small: what people bring, made once a session."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tf():
    """TensorFlow, whose import takes seconds that no other test should wait for."""
    import tensorflow

    return tensorflow


@pytest.fixture(scope="session")
def many_signatures(folder):
    """A SavedModel with strings, several inputs, unknown rank, and one no protocol can express."""
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.float32, name="zeta"),
                tf.TensorSpec([None], tf.int64, name="alpha"),
            ]
        )
        def combine(self, zeta, alpha):
            return {"total": tf.reduce_sum(zeta, 1) + tf.cast(alpha, tf.float32)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def upper(self, text):
            return {"upper": tf.strings.upper(text), "length": tf.strings.length(text)}

        @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, name="x")])
        def double(self, x):
            return {"y": 2 * x}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.complex64, name="c")])
        def conjugate(self, c):
            return {"y": tf.math.conj(c)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="n")])
        def no_zero(self, n):
            with tf.control_dependencies([tf.debugging.assert_none_equal(n, 0)]):
                return {"n": tf.identity(n)}

    module = Module()
    path = folder / "many"
    tf.saved_model.save(
        module,
        str(path),
        signatures={
            "serving_default": module.combine,
            "upper": module.upper,
            "double": module.double,
            "conjugate": module.conjugate,
            "no_zero": module.no_zero,
        },
    )
    return path


@pytest.fixture(scope="session")
def every_dtype(folder):
    """A SavedModel that returns one input of each datatype as it came."""
    import tensorflow as tf

    from serve.datatypes import DATATYPES

    dtypes = {
        name: tf.string if name == "BYTES" else tf.as_dtype(row.numpy)
        for name, row in DATATYPES.items()
    }

    class Module(tf.Module):
        @tf.function(
            input_signature=[
                {name: tf.TensorSpec([None], dtype, name) for name, dtype in dtypes.items()}
            ]
        )
        def echo(self, tensors):
            return {f"out_{name}": tf.identity(tensor) for name, tensor in tensors.items()}

    module = Module()
    tf.saved_model.save(module, str(folder / "dtypes"), signatures=module.echo)
    return folder / "dtypes"


@pytest.fixture(scope="session")
def keras_file(folder):
    """A `.keras` file of one dense layer, from x [N, 3] to y [N, 2]."""
    import keras

    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(2, name="y")])
    model.save(folder / "dense.keras")
    return folder / "dense.keras"
