"""A recipe as those of serve.learn, of two networks that learn nothing and so take no time."""

from pathlib import Path

import keras

from serve.learn.recipes import Made, Trained


def train(folder, epochs, progress):
    """Leave two networks that classify digits, one of which names its version and labels."""
    folder = Path(folder)
    made = []
    for name, version, metadata in (("tiny", None, {}), ("tiny-beside", 100, {"labels": 100})):
        image = keras.Input((28, 28, 1), name="image")
        flat = keras.layers.Flatten()(image)
        output = keras.layers.Dense(10, activation="softmax", name="probabilities")(flat)
        (folder / name).mkdir(parents=True)
        keras.Model(image, output).save(folder / name / "model.keras")
        made.append(Made(name, folder / name, version, metadata))
    progress(1.0, "trained")
    return Trained(
        tuple(made), held_out_accuracy=0.125, epochs=epochs or 7, seconds=3.4, data="digits"
    )
