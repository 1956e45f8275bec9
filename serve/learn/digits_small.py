"""The cheap layer: a network with a seventieth of the computation of digits-large.

The file reads from top to bottom: the network, then its training. Called by recipes.
"""

from pathlib import Path

import keras
from keras import layers

from serve.learn.classifier import fit_augmented
from serve.learn.recipes import Progress, Trained

EPOCHS = 20
LEARNING_RATE = 2e-3


def network() -> keras.Model:
    """Return the network: `image` float32 [N, 28, 28, 1] in 0..1 to `probabilities` [N, 10]."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(12, 5, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(24, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dropout(0.1)(layers.Flatten()(x))
    probabilities = layers.Dense(10, activation="softmax", name="probabilities")(x)
    return keras.Model(image, probabilities, name="digits-small")


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train on augmented digits."""
    return fit_augmented(network, folder, epochs or EPOCHS, LEARNING_RATE, progress)
