"""Pictures of held-out digits, to try a served model with; written at run time, never kept."""

import sys
from pathlib import Path

import numpy as np

from serve.learn.data import digits
from serve.protocols.pictures import save_image

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def write_samples(folder: Path) -> list[Path]:
    """Write one held-out digit of each class as `zero.png` to `nine.png` (28x28, greyscale)."""
    data = digits()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for label, name in enumerate(NAMES):
        row = int(np.flatnonzero(data.y_test == label)[0])
        paths.append(folder / f"{name}.png")
        save_image(data.x_test[row], paths[-1])
    return paths


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]))
