"""The reference models by name, and what a training leaves behind.

Called by `strata train`. A recipe's file is imported only when it is trained: it brings Keras.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from serve.errors import ConfigError

# Called after each step with the part done (0..1) and a line that says how it goes.
Progress = Callable[[float, str], None]

RECIPES = {
    "digits": "serve.learn.digits",
    "digits-large": "serve.learn.digits_large",
    "digits-small": "serve.learn.digits_small",
    "digits-vae": "serve.learn.digits_vae",
    "language": "serve.learn.language",
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model in a folder, and how good it is (0..1) on data that it has not seen.

    `measure` says of what that is the part; `also` are folders of further models by name, which
    the same training made.
    """

    folder: Path
    held_out_accuracy: float
    epochs: int
    seconds: float
    measure: str = "held-out accuracy"
    also: Mapping[str, Path] = field(default_factory=dict)


def prepare(name: str) -> Any:
    """Import a recipe's file and with it Keras, which takes seconds. Raises ConfigError."""
    if name not in RECIPES:
        raise ConfigError(f"'{name}' has no recipe (known: {', '.join(sorted(RECIPES))})")
    return import_module(RECIPES[name])


def train(name: str, folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train a reference model into a folder; `epochs` None is the recipe's own number."""
    trained: Trained = prepare(name).train(folder, epochs, progress)
    return trained
