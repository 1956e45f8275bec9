"""A recurrent network that tells the language of a phrase: strings in, language code out.

The file reads from top to bottom: from bytes to characters, the network, its training. Called by
recipes.
"""

import time
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from serve.learn.data import LANGUAGES, phrases, unseen_phrases, words
from serve.learn.learning_rate import one_cycle
from serve.learn.plots import plot_confusion, plot_learning_curves
from serve.learn.progress import ReportProgress
from serve.learn.recipes import Made, Progress, Trained
from serve.learn.reproducible import SEED, begin
from serve.learn.saving import save_functions

EPOCHS = 3
BATCH_SIZE = 128
PHRASES = 48_000
# Half-way between 0, which draws all words alike and teaches spelling, and 1 (Zipf's law), which
# teaches what language `la` belongs to: each list has frequent words of other languages.
RANK_EXPONENT = 0.5
LEARNING_RATE = 5e-3

LONGEST = 64  # characters that are read; what follows would not change the prediction
# Phrases that are about as long are learned from together: cut to so many characters they take half
# of the steps through time that they would take at the longest's length.
_LENGTHS = (16, 28, 40, LONGEST)
ALPHABET = 0x530  # Latin, Greek and Cyrillic; other characters share one place


def characters(text: tf.Tensor) -> tf.Tensor:
    """Return the lower-case characters of UTF-8 strings [N] as int32 [N, LONGEST], 0 at the end."""
    lower = tf.strings.lower(text, encoding="utf-8")
    codes = tf.strings.unicode_decode(lower, "UTF-8", errors="replace")
    return tf.minimum(codes.to_tensor(0, shape=(None, LONGEST)), ALPHABET - 1)


def network(longest: int | None = LONGEST) -> keras.Model:
    """Return the network: `characters` int32 [N, longest] to `probabilities` [N, 8].

    Its weights are the same whatever the longest; None takes any.
    """
    read = keras.Input((longest,), dtype="int32", name="characters")
    x = layers.Embedding(ALPHABET, 32, mask_zero=True)(read)
    x = layers.Bidirectional(layers.GRU(48))(x)
    x = layers.Dropout(0.2)(x)
    probabilities = layers.Dense(len(LANGUAGES), activation="softmax", name="probabilities")(x)
    return keras.Model(read, probabilities, name="language")


def train(folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train on phrases of one to six words and measure on phrases of four words never seen."""
    begin()
    started = time.perf_counter()
    known = words()
    text, language = phrases(known.train, range(1, 7), PHRASES, SEED, RANK_EXPONENT)
    unseen, unseen_language = unseen_phrases()
    epochs = epochs or EPOCHS
    rows = batches(characters(text.tolist()).numpy(), language)
    model = network(None)
    model.compile(
        keras.optimizers.Adam(one_cycle(LEARNING_RATE, epochs * len(rows))),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = model.fit(
        rows,
        epochs=epochs,
        validation_data=(characters(unseen.tolist()), unseen_language),
        callbacks=[ReportProgress(epochs, progress)],
        shuffle=False,  # the batches are in a new order every epoch already
        verbose=0,
    )
    served = network()
    served.set_weights(model.get_weights())
    save(served, folder)
    plot_learning_curves(history.history, model.name, folder / "learning_curves.png")
    predicted = model.predict(characters(unseen.tolist()), verbose=0).argmax(axis=1)
    plot_confusion(unseen_language, predicted, LANGUAGES, folder / "confusion.png")
    accuracy = float(np.mean(predicted == unseen_language))
    made = (Made(model.name, folder, metadata={"held_out_accuracy": accuracy}),)
    return Trained(made, accuracy, epochs, time.perf_counter() - started, "language")


def batches(read: npt.NDArray[np.int32], language: npt.NDArray[np.int64]) -> tf.data.Dataset:
    """Return batches of characters [N, L] and languages [N], in a new order every epoch.

    Those of a batch are about as long, and L the least of _LENGTHS that holds them.
    """
    sizes = np.count_nonzero(read, axis=1)
    bins = np.searchsorted(_LENGTHS, sizes)  # a phrase as long as one of them belongs to it
    number = sum(-(-count // BATCH_SIZE) for count in np.bincount(bins))
    rows = tf.data.Dataset.from_tensor_slices((read, language, sizes)).shuffle(len(read), seed=SEED)
    cut = rows.map(lambda characters, language, size: (characters[:size], language))
    together = cut.bucket_by_sequence_length(
        lambda characters, language: tf.size(characters),
        [length + 1 for length in _LENGTHS],  # a bucket ends before its boundary
        [BATCH_SIZE] * (len(_LENGTHS) + 1),
        pad_to_bucket_boundary=True,
    )
    return together.apply(tf.data.experimental.assert_cardinality(number)).prefetch(2)


def save(model: keras.Model, folder: Path) -> None:
    """Save from text to language: `text` BYTES [N] to `label` BYTES [N], `probabilities` [N, 8]."""
    codes = tf.constant(LANGUAGES)

    def serve(text: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = model(characters(text), training=False)
        label = tf.gather(codes, tf.argmax(probabilities, axis=1))
        return {"label": label, "probabilities": probabilities}

    text = tf.TensorSpec((None,), tf.string, name="text")
    save_functions(model, folder, tf.function(serve, [text]))
