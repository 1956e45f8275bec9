"""The expensive layer: a deeper network with batch normalisation, trained on augmented digits.

The file reads from top to bottom: the network, then its training. Called by recipes.
"""

from pathlib import Path

import keras
from keras import layers

from serve.learn.classifier import fit_augmented
from serve.learn.recipes import Progress, Trained

EPOCHS = 12
LEARNING_RATE = 3e-3


def network() -> keras.Model:
    """Return the network: `image` float32 [N, 28, 28, 1] in 0..1 to `probabilities` [N, 10]."""
    image = keras.Input((28, 28, 1), name="image")
    x = image
    for filters in (32, 64):
        x = _convolve(_convolve(x, filters), filters)
        x = layers.MaxPooling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(_convolve(x, 128))
    probabilities = layers.Dense(10, activation="softmax", name="probabilities")(x)
    return keras.Model(image, probabilities, name="digits-large")


def _convolve(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train on augmented digits."""
    return fit_augmented(network, folder, epochs or EPOCHS, LEARNING_RATE, progress)
