"""A variational autoencoder of handwritten digits: learned without labels, it encodes and draws.

The file reads from top to bottom: encoder, decoder, the loss, the training. Called by recipes.
Loss: Kingma and Welling, "Auto-Encoding Variational Bayes" (2013), equation 10 and appendix B.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers, ops

from serve.learn import digits
from serve.learn.classifier import shuffled
from serve.learn.data import Split
from serve.learn.data import digits as load_digits
from serve.learn.learning_rate import one_cycle
from serve.learn.plots import plot_images, plot_latent_space, plot_losses
from serve.learn.progress import ReportProgress
from serve.learn.recipes import Made, Progress, Trained
from serve.learn.reproducible import SEED, begin
from serve.learn.saving import save_functions

EPOCHS = 24
BATCH_SIZE = 64
LEARNING_RATE = 3e-3
LATENT = 16
_JUDGE_EPOCHS = 6


def encoder() -> keras.Model:
    """Return the encoder: images [N, 28, 28, 1] to mean and log variance, each [N, LATENT]."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, [layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)], name="encoder")


def decoder() -> keras.Model:
    """Return the decoder: latent [N, LATENT] to images [N, 28, 28, 1] in 0..1."""
    latent = keras.Input((LATENT,), name="latent")
    x = layers.Dense(7 * 7 * 64, activation="relu")(latent)
    x = layers.Reshape((7, 7, 64))(x)
    x = layers.Conv2DTranspose(64, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(latent, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x))


class Autoencoder(keras.Model):  # type: ignore[misc]
    """Encoder, a draw from the latent distribution, decoder; trained on images alone."""

    def __init__(self) -> None:
        super().__init__(name="digits-vae")
        self.encoder = encoder()
        self.decoder = decoder()
        self.noise = keras.random.SeedGenerator(SEED)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return reconstructions; drawn in training, from the mean otherwise."""
        mean, log_variance = self.encoder(images)
        if training:
            noise = keras.random.normal(ops.shape(mean), seed=self.noise)
            divergence = ops.sum(1 + log_variance - mean**2 - ops.exp(log_variance), axis=1)
            self.add_loss(-0.5 * ops.mean(divergence))
            mean = mean + ops.exp(0.5 * log_variance) * noise
        return self.decoder(mean)


def reconstruction_loss(images: tf.Tensor, drawn: tf.Tensor) -> tf.Tensor:
    """Return the binary cross-entropy of each image [N], in nats summed over its pixels."""
    return ops.sum(ops.binary_crossentropy(images, drawn), axis=(1, 2, 3))


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train on 4,000 digits without labels; the accuracy is that of `digits` on reconstructions."""
    begin()
    started = time.perf_counter()
    data = load_digits()
    epochs = epochs or EPOCHS
    rate = one_cycle(LEARNING_RATE, steps(data.x_train, epochs))
    model, losses = fit(data.x_train, data.x_test, epochs, rate, progress)
    generate = folder.with_name("digits-generate")
    save(model, folder, generate)
    plot_losses(losses, model.name, folder / "learning_curves.png")
    drawn = model.predict(data.x_test, verbose=0)
    plot_images(data.x_test[::100], drawn[::100], _samples(model), folder / "samples.png")
    latent, _ = model.encoder.predict(data.x_test, verbose=0)
    plot_latent_space(latent, data.y_test, folder / "latent_space.png")
    recognised = _judge(data).predict(drawn, verbose=0).argmax(axis=1) == data.y_test
    return Trained(
        (
            Made(model.name, folder, reconstruction_error="error"),
            Made("digits-generate", generate, inputs={"latent": latent}),
        ),
        float(np.mean(recognised)),
        epochs,
        time.perf_counter() - started,
        "digits",
        measure="of held-out reconstructions recognised by digits",
    )


def fit(
    x_train: npt.NDArray[np.float32],
    x_test: npt.NDArray[np.float32],
    epochs: int,
    rate: keras.optimizers.schedules.LearningRateSchedule,
    progress: Progress,
) -> tuple[Autoencoder, Mapping[str, Sequence[float]]]:
    """Return an autoencoder that was trained on images alone, and its losses by epoch."""
    model = Autoencoder()
    model.compile(keras.optimizers.Adam(rate), loss=reconstruction_loss)
    rows = tf.data.Dataset.from_tensor_slices((x_train, x_train))
    history = model.fit(
        rows.shuffle(len(x_train), seed=SEED).batch(BATCH_SIZE),
        epochs=epochs,
        validation_data=(x_test, x_test),
        callbacks=[ReportProgress(epochs, progress)],
        shuffle=False,  # the batches are in a new order every epoch already
        verbose=0,
    )
    return model, history.history


def steps(x_train: npt.NDArray[np.float32], epochs: int) -> int:
    """Return how many batches `fit` learns from."""
    return epochs * -(-len(x_train) // BATCH_SIZE)


def _judge(data: Split) -> keras.Model:
    """Return the network of `digits`, trained on real digits, to classify reconstructions."""
    model = digits.network()
    model.compile("adam", loss="sparse_categorical_crossentropy")
    model.fit(shuffled(data, digits.BATCH_SIZE), epochs=_JUDGE_EPOCHS, shuffle=False, verbose=0)
    return model


def _samples(model: Autoencoder) -> npt.NDArray[np.float32]:
    """Return ten new digits: decoded draws from the prior."""
    latent = np.random.default_rng(SEED).normal(size=(10, LATENT)).astype(np.float32)
    drawn: npt.NDArray[np.float32] = model.decoder.predict(latent, verbose=0)
    return drawn


def save(model: Autoencoder, folder: Path, generate_folder: Path) -> None:
    """Save the whole, and its decoder as a model of its own.

    The whole: `image` FP32 [N, 28, 28, 1] to `reconstruction` (the same), `latent` [N, LATENT]
    and `error` [N], nats a pixel. The decoder: `latent` to `image`.
    """

    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        latent, _ = model.encoder(image)
        drawn = model.decoder(latent)
        error = reconstruction_loss(image, drawn) / (28 * 28)
        return {"reconstruction": drawn, "latent": latent, "error": error}

    def generate(latent: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"image": model.decoder(latent)}

    image = tf.TensorSpec((None, 28, 28, 1), tf.float32, name="image")
    latent = tf.TensorSpec((None, LATENT), tf.float32, name="latent")
    save_functions(model, folder, tf.function(serve, [image]))
    save_functions(model.decoder, generate_folder, tf.function(generate, [latent]))
