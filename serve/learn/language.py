"""A recurrent network that tells the language of a phrase: strings in, language code out.

The file reads from top to bottom: from bytes to characters, the network, its training. Called by
recipes.
"""

import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from serve.learn.data import LANGUAGES, phrases, unseen_phrases, words
from serve.learn.plots import plot_confusion, plot_learning_curves
from serve.learn.progress import ReportProgress
from serve.learn.recipes import Made, Progress, Trained
from serve.learn.saving import SEED, save_functions

EPOCHS = 5
BATCH_SIZE = 256
PHRASES = 48_000
# Half-way between 0, which draws all words alike and teaches spelling, and 1 (Zipf's law), which
# teaches what language `la` belongs to: each list has frequent words of other languages.
RANK_EXPONENT = 0.5
LEARNING_RATE = 4e-3

LONGEST = 64  # characters that are read; what follows would not change the prediction
ALPHABET = 0x530  # Latin, Greek and Cyrillic; other characters share one place


def characters(text: tf.Tensor) -> tf.Tensor:
    """Return the lower-case characters of UTF-8 strings [N] as int32 [N, LONGEST], 0 at the end."""
    lower = tf.strings.lower(text, encoding="utf-8")
    codes = tf.strings.unicode_decode(lower, "UTF-8", errors="replace")
    return tf.minimum(codes.to_tensor(0, shape=(None, LONGEST)), ALPHABET - 1)


def network() -> keras.Model:
    """Return the network: `characters` int32 [N, LONGEST] to `probabilities` [N, 8]."""
    read = keras.Input((LONGEST,), dtype="int32", name="characters")
    x = layers.Embedding(ALPHABET, 32, mask_zero=True)(read)
    x = layers.Bidirectional(layers.GRU(48))(x)
    x = layers.Dropout(0.2)(x)
    probabilities = layers.Dense(len(LANGUAGES), activation="softmax", name="probabilities")(x)
    return keras.Model(read, probabilities, name="language")


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train on phrases of one to six words and measure on phrases of four words never seen."""
    keras.utils.set_random_seed(SEED)
    started = time.perf_counter()
    known = words()
    text, language = phrases(known.train, range(1, 7), PHRASES, SEED, RANK_EXPONENT)
    unseen, unseen_language = unseen_phrases()
    epochs = epochs or EPOCHS
    model = network()
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(LEARNING_RATE, epochs * PHRASES // BATCH_SIZE)
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    rows = tf.data.Dataset.from_tensor_slices((characters(text.tolist()), language))
    history = model.fit(
        rows.shuffle(PHRASES, seed=SEED).batch(BATCH_SIZE),
        epochs=epochs,
        validation_data=(characters(unseen.tolist()), unseen_language),
        callbacks=[ReportProgress(epochs, progress)],
        shuffle=False,  # the batches are in a new order every epoch already
        verbose=0,
    )
    save(model, folder)
    plot_learning_curves(history.history, model.name, folder / "learning_curves.png")
    predicted = model.predict(characters(unseen.tolist()), verbose=0).argmax(axis=1)
    plot_confusion(unseen_language, predicted, LANGUAGES, folder / "confusion.png")
    accuracy = float(np.mean(predicted == unseen_language))
    made = (Made(model.name, folder, metadata={"held_out_accuracy": accuracy}),)
    return Trained(made, accuracy, epochs, time.perf_counter() - started, "language")


def save(model: keras.Model, folder: Path) -> None:
    """Save from text to language: `text` BYTES [N] to `label` BYTES [N], `probabilities` [N, 8]."""
    codes = tf.constant(LANGUAGES)

    def serve(text: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(characters(text), training=False)
        label = tf.gather(codes, tf.argmax(probabilities, axis=1))
        return {"label": label, "probabilities": probabilities}

    text = tf.TensorSpec((None,), tf.string, name="text")
    save_functions(model, folder, tf.function(serve, [text]))
