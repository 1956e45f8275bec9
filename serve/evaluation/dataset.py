"""Data, labelled or not: from an .npz file, or the held-out data of a reference model.

Called by `strata compare`, `strata tune` and, for baselines, `strata publish`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ConfigError
from serve.protocols import npz
from serve.types import Array, Signature, Tensors

HELD_OUT = "held-out"
LABEL = "label"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows by input name, and a label for each.

    A class number, bytes such as b"de", a quantity, or several of these in columns.
    """

    inputs: Tensors
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: Array | slice) -> "Dataset":
        """Return only these rows."""
        inputs = {name: array[chosen] for name, array in self.inputs.items()}
        return Dataset(inputs, self.labels[chosen])

    def inputs_of(self, signature: Signature, name: str) -> Tensors:
        """Return what a model takes, in its order. Raises ConfigError for what is missing."""
        return inputs_of(self.inputs, signature, name)


def inputs_of(arrays: Tensors, signature: Signature, name: str) -> Tensors:
    """Return what a model takes, in its order. Raises ConfigError for what is missing."""
    wanted = [spec.name for spec in signature.inputs]
    if any(tensor not in arrays for tensor in wanted):
        raise ConfigError(
            f"'{name}' takes the inputs {', '.join(wanted)}; the data has {', '.join(arrays)}"
        )
    return {tensor: arrays[tensor] for tensor in wanted}


def read_npz(path: Path) -> Dataset:
    """Read arrays by input name and `label`, all with the same number of rows.

    Raises ConfigError.
    """
    arrays = read_arrays(path)
    if LABEL not in arrays or len(arrays) < 2:
        raise ConfigError(
            f"{path}: needs '{LABEL}' and an array for each input of the model "
            f"(it has: {', '.join(arrays)})"
        )
    if any(array.ndim == 0 for array in arrays.values()):
        raise ConfigError(f"{path}: every array needs rows, dimension 0")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ConfigError(f"{path}: the arrays differ in rows: {shown}")
    labels = arrays.pop(LABEL)
    if not labels.size or labels.dtype.kind not in "biufO":
        raise ConfigError(f"{path}: '{LABEL}' needs a number or a text for each row")
    return Dataset(arrays, labels.reshape(len(labels)) if labels.size == len(labels) else labels)


def read_arrays(path: Path) -> Tensors:
    """Read arrays by name. Raises ConfigError.

    Strings may be bytes or text, which becomes UTF-8.
    """
    try:
        return npz.read_arrays(path)
    except ValueError as err:
        raise ConfigError(str(err)) from err


def held_out(metadata: Mapping[str, object], model: str) -> Dataset:
    """Return the data that a reference model was not trained on, named by its `metadata`.

    Raises ConfigError if the metadata names no such data.
    """
    from serve.learn import data

    name = metadata.get("data")
    if name not in data.HELD_OUT:
        raise ConfigError(
            f"'{model}' does not say what data it was held from; give --data FILE.npz with "
            f"'{LABEL}' and the model's inputs"
        )
    inputs, labels = data.HELD_OUT[str(name)]()
    return Dataset(inputs, labels)
