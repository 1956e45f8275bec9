import itertools

import numpy as np
import pytest

from serve.learn.data import Split
from tests.unit.learn.conftest import loaded, quietly


@pytest.fixture(scope="module")
def classifier():
    from serve.learn import classifier

    return classifier


def _tiny():
    import keras

    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="tiny",
    )


@pytest.fixture(scope="module")
def trained(classifier, few_digits, tmp_path_factory):
    """What one epoch on 200 digits left, and the progress that it reported."""
    model, seen = _tiny(), []
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    result = classifier.fit(
        model,
        classifier.shuffled(few_digits, 20),
        few_digits,
        tmp_path_factory.mktemp("tiny"),
        epochs=1,
        progress=lambda done, text: seen.append(done),
    )
    return result, seen


def test_the_accuracy_is_that_of_what_was_saved_on_digits_it_was_not_shown(trained, few_digits):
    result, _ = trained
    probabilities = loaded(result.folder)[0].infer("serving_default", {"image": few_digits.x_test})
    right = probabilities["probabilities"].argmax(axis=1) == few_digits.y_test
    assert result.held_out_accuracy == pytest.approx(right.mean(), abs=0.002)
    assert result.made[0].metadata == {"held_out_accuracy": result.held_out_accuracy}
    assert (result.made[0].name, result.epochs, result.data) == ("tiny", 1, "digits")


def test_progress_counts_the_batches(trained):
    assert trained[1] == pytest.approx([*(np.arange(1, 11) / 10), 1])


def test_the_signature_is_what_all_digit_classifiers_have(trained):
    _, inputs, outputs = loaded(trained[0].folder)
    assert inputs == [("image", "FP32", (-1, 28, 28, 1))]
    assert outputs == {"probabilities": (-1, 10)}


def test_the_h5_beside_the_saved_model_gives_the_same_numbers(trained, few_digits):
    images = {"image": few_digits.x_test[:5]}
    engines = [loaded(trained[0].folder / name)[0] for name in ("", "model.h5")]
    first, second = (engine.infer("serving_default", images) for engine in engines)
    np.testing.assert_allclose(first["probabilities"], second["probabilities"], atol=1e-5)


def test_pictures_of_the_training_are_left(trained):
    names = {path.name for path in trained[0].folder.iterdir()}
    assert {"learning_curves.png", "confusion.png"} <= names


def _numbered(rows):
    """Return images that tell their row by their brightness, with the row as label."""
    labels = np.arange(rows)
    images = np.ones((rows, 28, 28, 1), np.float32) * labels.reshape(-1, 1, 1, 1) / rows
    return Split(images, labels, images[:0], labels[:0])


def test_every_epoch_has_each_row_once_with_its_label_in_an_order_of_its_own(classifier):
    batches = classifier.shuffled(_numbered(50), 20)
    orders = []
    for _ in range(2):
        epoch = [(x.numpy(), y.numpy()) for x, y in batches]
        assert [len(y) for _, y in epoch] == [20, 20, 10]
        for x, y in epoch:
            np.testing.assert_allclose(x[:, 14, 14, 0], y / 50)
        orders.append(list(itertools.chain(*(y for _, y in epoch))))
    assert [sorted(order) for order in orders] == [list(range(50))] * 2
    assert orders[0] != orders[1]


def test_augmented_digits_are_changed_a_little_and_anew_each_epoch(classifier, few_digits):
    batches = classifier.augmented(few_digits, 200)
    ((first, labels),), ((second, _),) = list(batches), list(batches)
    assert first.shape == (200, 28, 28, 1)
    assert np.bincount(labels.numpy()).tolist() == [20] * 10
    seen = {image.tobytes() for image in few_digits.x_train}
    for images in (first.numpy(), second.numpy()):
        assert images.min() >= 0
        assert images.max() <= 1 + 1e-6
        made = {image.tobytes() for image in images}
        assert not seen & made
        seen |= made
        assert images.mean() == pytest.approx(few_digits.x_train.mean(), rel=0.2)


def test_augmented_images_keep_their_labels(classifier):
    for x, y in classifier.augmented(_numbered(50), 20):
        np.testing.assert_allclose(x[:, 14, 14, 0], y.numpy() / 50, atol=1e-5)


def test_the_same_training_gives_the_same_weights(classifier, few_digits, monkeypatch, tmp_path):
    monkeypatch.setattr(classifier, "digits", lambda: few_digits)
    weights = []

    def network():
        model = _tiny()
        weights.append(model.trainable_variables)
        return model

    for name in ("one", "two"):
        trained = classifier.fit_augmented(network, tmp_path / name, 1, 0.01, quietly)
        assert trained.epochs == 1
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(first.numpy(), second.numpy())
