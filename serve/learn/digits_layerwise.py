"""Layered learning beside end-to-end: one network, trained layer by layer and all at once.

Layer by layer, the encoder of the autoencoder learns from images without labels; it is frozen, and
a head on its latent space learns from few labels. End to end, the whole network learns from those
labels alone. The file reads from top to bottom. Called by recipes.
"""

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from serve.learn import digits_vae
from serve.learn.classifier import save
from serve.learn.data import Split, digits
from serve.learn.recipes import Made, Progress, Trained
from serve.learn.reproducible import SEED

LABELS = (100, 500, 4_000)  # the last is all that there are
STEPS = 1_500  # of 32 labelled digits: few labels are seen often
BATCH_SIZE = 32
EPOCHS = 40  # of the autoencoder, which is to be as good as it gets
LEARNING_RATE = 2e-3
_AUTOENCODER_SHARE = 0.5  # of the whole time, about


def classifier(encoder: keras.Model, name: str) -> keras.Model:
    """Return encoder and head: `image` float32 [N, 28, 28, 1] to `probabilities` [N, 10]."""
    image = keras.Input((28, 28, 1), name="image")
    latent = keras.Model(encoder.input, encoder.outputs[0], name="latent")(image)
    x = layers.Dense(64, activation="relu")(latent)
    return keras.Model(
        image, layers.Dense(10, activation="softmax", name="probabilities")(x), name=name
    )


def layer_by_layer(encoder: keras.Model) -> keras.Model:
    """Return the network with a trained encoder that no longer changes."""
    encoder.trainable = False
    return classifier(encoder, "digits-layerwise")


def end_to_end() -> keras.Model:
    """Return the same network with nothing learned yet."""
    return classifier(digits_vae.encoder(), "digits-end-to-end")


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train both ways with 100, 500 and all labels; `epochs` are the autoencoder's."""
    keras.utils.set_random_seed(SEED)
    started = time.perf_counter()
    data = digits()
    epochs = epochs or EPOCHS
    steps = digits_vae.steps(data.x_train, epochs)
    autoencoder, _ = digits_vae.fit(
        data.x_train,
        data.x_test,
        epochs,
        keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps),
        lambda done, text: progress(done * _AUTOENCODER_SHARE, f"autoencoder, {text}"),
    )
    made = []
    for index, count in enumerate(reversed(LABELS)):
        labelled = _with_labels(data, count)
        for model in (layer_by_layer(autoencoder.encoder), end_to_end()):
            done = _AUTOENCODER_SHARE + (1 - _AUTOENCODER_SHARE) * index / len(LABELS)
            progress(done, f"{model.name}, {count} labels")
            made.append(_trained(model, labelled, folder.with_name(f"{model.name}-{count}")))
    progress(1.0, "done")
    accuracy = float(made[0].metadata["held_out_accuracy"])
    return Trained(tuple(made), accuracy, epochs, time.perf_counter() - started, "digits")


def _with_labels(data: Split, count: int) -> Split:
    """Return only so many training digits, the same number of each class."""
    each = count // 10
    rows = np.concatenate([np.flatnonzero(data.y_train == label)[:each] for label in range(10)])
    return Split(data.x_train[rows], data.y_train[rows], data.x_test, data.y_test)


def _trained(model: keras.Model, data: Split, folder: Path) -> Made:
    """Train on the labels, save; the version is their number."""
    count = len(data.x_train)
    model.compile("adam", loss="sparse_categorical_crossentropy")
    rows = tf.data.Dataset.from_tensor_slices((data.x_train, data.y_train))
    batches = rows.shuffle(count, seed=SEED).repeat().batch(BATCH_SIZE).take(STEPS)
    model.fit(batches, shuffle=False, verbose=0)
    save(model, folder)
    predicted = model.predict(data.x_test, verbose=0).argmax(axis=1)
    accuracy = float(np.mean(predicted == data.y_test))
    return Made(model.name, folder, count, {"labels": count, "held_out_accuracy": accuracy})
