"""What the digit classifiers share: training with figures, and how a classifier is saved.

Called by digits, digits_small and digits_large, whose files say what differs.
"""

import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from serve.learn.data import Split, digits
from serve.learn.learning_rate import one_cycle
from serve.learn.plots import plot_confusion, plot_learning_curves
from serve.learn.progress import ReportProgress
from serve.learn.recipes import Made, Progress, Trained
from serve.learn.reproducible import SEED, begin
from serve.learn.saving import save_functions

_AUGMENTED_BATCH_SIZE = 32
_RISING = 0.2  # of the steps


def fit(
    model: keras.Model,
    batches: tf.data.Dataset,
    data: Split,
    folder: Path,
    epochs: int,
    progress: Progress,
) -> Trained:
    """Train a compiled classifier on batches, save it with its curves, measure it held out."""
    started = time.perf_counter()
    history = model.fit(
        batches,
        epochs=epochs,
        validation_data=(data.x_test, data.y_test),
        callbacks=[ReportProgress(epochs, progress)],
        shuffle=False,  # the batches are in a new order every epoch already
        verbose=0,
    )
    save(model, folder)
    plot_learning_curves(history.history, model.name, folder / "learning_curves.png")
    predicted = model.predict(data.x_test, verbose=0).argmax(axis=1)
    plot_confusion(data.y_test, predicted, range(10), folder / "confusion.png")
    accuracy = float(np.mean(predicted == data.y_test))
    made = (Made(model.name, folder, metadata={"held_out_accuracy": accuracy}),)
    return Trained(made, accuracy, epochs, time.perf_counter() - started, "digits")


def fit_augmented(
    network: Callable[[], keras.Model],
    folder: Path,
    epochs: int,
    learning_rate: float,
    progress: Progress,
) -> Trained:
    """Train on 4,000 digits, each a little different every time, and measure on 1,000 others.

    Adam; `learning_rate` is the peak of one cycle.
    """
    begin()
    data = digits()
    model = network()
    steps = epochs * -(-len(data.x_train) // _AUGMENTED_BATCH_SIZE)
    model.compile(
        keras.optimizers.Adam(one_cycle(learning_rate, steps, rising=_RISING)),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return fit(model, augmented(data, _AUGMENTED_BATCH_SIZE), data, folder, epochs, progress)


def shuffled(data: Split, batch_size: int) -> tf.data.Dataset:
    """Return the training digits as batches, in a new order every epoch."""
    rows = tf.data.Dataset.from_tensor_slices((data.x_train, data.y_train))
    return rows.shuffle(len(data.x_train), seed=SEED).batch(batch_size)


def augmented(data: Split, batch_size: int) -> tf.data.Dataset:
    """Return batches of digits that were moved, turned and scaled a little, each time anew."""
    moves = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=SEED),
            keras.layers.RandomRotation(0.04, fill_mode="constant", seed=SEED + 1),
            keras.layers.RandomZoom(0.1, fill_mode="constant", seed=SEED + 2),
        ]
    )
    return shuffled(data, batch_size).map(lambda x, y: (moves(x, training=True), y)).prefetch(2)


def save(model: keras.Model, folder: Path) -> None:
    """Save as SavedModel, which is served, and as `model.h5`, for those who read that.

    The signature is `image` float32 [N, 28, 28, 1] to `probabilities` float32 [N, 10].
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image, training=False)}

    image = tf.TensorSpec((None, 28, 28, 1), tf.float32, name="image")
    save_functions(model, folder, tf.function(serve, [image]))
    model.save(folder / "model.h5")
