"""End-to-end learning: one convolutional network from a handwritten digit to its class.

The file reads from top to bottom: network, training, what is saved. Called by recipes.
"""

import time
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

from serve.learn.data import Split, digits
from serve.learn.plots import plot_learning_curves
from serve.learn.progress import ReportProgress
from serve.learn.recipes import Progress, Trained

SEED = 42
EPOCHS = 10
BATCH_SIZE = 32


def network() -> keras.Model:
    """Return the network: `image` float32 [N, 28, 28, 1] in 0..1 to `probabilities` [N, 10]."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="digits",
    )


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train on 4,000 digits, measure on 1,000 others, save model and curves into a folder."""
    started = time.perf_counter()
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    data = digits()
    model = network()
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    epochs = epochs or EPOCHS
    history = model.fit(
        data.x_train,
        data.y_train,
        BATCH_SIZE,
        epochs,
        validation_data=(data.x_test, data.y_test),
        callbacks=[ReportProgress(epochs, progress)],
        verbose=0,
    )
    save(model, folder)
    plot_learning_curves(history.history, "digits", folder / "learning_curves.png")
    return Trained(folder, _accuracy(model, data), epochs, time.perf_counter() - started)


def save(model: keras.Model, folder: Path) -> None:
    """Save as SavedModel, which is served, and as `model.h5`, for those who read that."""
    folder.mkdir(parents=True, exist_ok=True)

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(image, training=False)}

    image = tf.TensorSpec((None, 28, 28, 1), tf.float32, name="image")
    # Only variables are tracked: the layers' own functions would be traced and saved for nothing.
    module = tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    tf.saved_model.save(module, str(folder), signatures=tf.function(serve, [image]))
    model.save(folder / "model.h5")


def _accuracy(model: keras.Model, data: Split) -> float:
    _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
    return float(accuracy)
