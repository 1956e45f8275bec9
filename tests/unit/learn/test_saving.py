import numpy as np
import pytest

from tests.unit.learn.conftest import loaded


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network, and the folder where a function of it was saved."""
    import keras
    import tensorflow as tf

    from serve.learn.saving import save_functions

    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    )
    image = tf.TensorSpec((None, 3), tf.float32, name="image")

    def serve(image):
        return {"twice": 2 * model(image, training=False), "sum": tf.reduce_sum(image, axis=1)}

    folder = tmp_path_factory.mktemp("saved") / "models" / "net"
    save_functions(model, folder, tf.function(serve, [image]))
    return model, folder


def test_the_tensors_have_the_names_that_the_function_gives_them(saved):
    _, inputs, outputs = loaded(saved[1])
    assert inputs == [("image", "FP32", (-1, 3))]
    assert outputs == {"twice": (-1, 4), "sum": (-1,)}


def test_the_saved_function_computes_with_the_weights_of_the_model(saved):
    model, folder = saved
    x = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    outputs = loaded(folder)[0].infer("serving_default", {"image": x})
    np.testing.assert_allclose(outputs["twice"], 2 * model(x).numpy(), atol=1e-5)


def test_nothing_is_saved_beside_the_variables_and_the_function(saved):
    import tensorflow as tf

    model, folder = saved
    again = tf.saved_model.load(str(folder))
    assert list(again.signatures) == ["serving_default"]
    assert len(again.variables_) == len(model.variables)
    assert not hasattr(again, "layers")
