"""The reference models by name, and what a training leaves behind.

Called by `strata train`. A recipe's file is imported only when it is trained: it brings Keras.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from serve.errors import ConfigError
from serve.types import Tensors

# Called after each step with the part done (0..1) and a line that says how it goes.
Progress = Callable[[float, str], None]

# Those that are trained fastest first.
RECIPES = {
    "digits": "serve.learn.digits",
    "digits-small": "serve.learn.digits_small",
    "language": "serve.learn.language",
    "digits-vae": "serve.learn.digits_vae",
    "digits-large": "serve.learn.digits_large",
    "digits-layerwise": "serve.learn.digits_layerwise",
}
# What else a recipe makes, where that is not known by its own name.
BESIDE = {"digits-generate": "digits-vae"}


def recipes_for(models: Iterable[str]) -> list[str]:
    """Return the recipes that make these models, fastest first; some may have none."""
    wanted = {BESIDE.get(model, model) for model in models}
    return [name for name in RECIPES if name in wanted]


@dataclass(frozen=True, slots=True)
class Made:
    """A trained model in a folder; `version` None becomes the next one, `metadata` is JSON.

    `inputs` are held-out rows by input name, to make a drift baseline of; None takes those of the
    data of its training. `reconstruction_error` names an autoencoder's output that has the error of
    each row.
    """

    name: str
    folder: Path
    version: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    inputs: Tensors | None = None
    reconstruction_error: str | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training made, the recipe's own model first, and how good that one is (0..1).

    `measure` is the words for that figure; `data` names the data set whose held-out part no
    model has seen.
    """

    made: tuple[Made, ...]
    held_out_accuracy: float
    epochs: int
    seconds: float
    data: str
    measure: str = "held-out accuracy"

    @property
    def folder(self) -> Path:
        return self.made[0].folder


def prepare(name: str) -> Any:
    """Import a recipe's file and with it Keras, which takes seconds. Raises ConfigError."""
    if name not in RECIPES:
        raise ConfigError(f"'{name}' has no recipe (known: {', '.join(sorted(RECIPES))})")
    return import_module(RECIPES[name])


def train(name: str, folder: Path, epochs: int | None, progress: Progress) -> Trained:
    """Train a reference model into a folder; `epochs` None is the recipe's own number."""
    trained: Trained = prepare(name).train(folder, epochs, progress)
    return trained
