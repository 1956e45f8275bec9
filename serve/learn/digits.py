"""End-to-end learning: one convolutional network from a handwritten digit to its class.

The file reads from top to bottom: the network, then its training. Called by recipes.
"""

from pathlib import Path

import keras
from keras import layers

from serve.learn.classifier import fit, shuffled
from serve.learn.data import digits
from serve.learn.recipes import Progress, Trained
from serve.learn.reproducible import begin

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
    """Train on 4,000 digits and measure on 1,000 others."""
    begin()
    data = digits()
    model = network()
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return fit(model, shuffled(data, BATCH_SIZE), data, folder, epochs or EPOCHS, progress)
