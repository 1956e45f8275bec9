import numpy as np

from tests.unit.learn.conftest import IMAGE, PROBABILITIES, ends, loaded


def test_the_network_goes_from_an_image_to_the_probabilities_of_ten_classes():
    from serve.learn import digits_large

    assert ends(digits_large.network()) == ([IMAGE], [PROBABILITIES])


def test_the_last_layer_of_the_cascade_has_its_signature_and_looks_at_each_row_alone(
    few_digits, trained_on_few
):
    """Batch normalisation and dropout are the training's; a served row has no neighbours."""
    folder = trained_on_few("digits-large")
    engine, inputs, outputs = loaded(folder)
    assert inputs == [("image", "FP32", (-1, 28, 28, 1))]
    assert outputs == {"probabilities": (-1, 10)}
    assert {"learning_curves.png", "confusion.png"} <= {path.name for path in folder.iterdir()}
    images = few_digits.x_test[::200]
    together = engine.infer("serving_default", {"image": images})["probabilities"]
    alone = [
        engine.infer("serving_default", {"image": image[None]})["probabilities"][0]
        for image in images
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
