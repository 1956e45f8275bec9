"""What can be measured of a model: told from its outputs and the labels, or asked for.

A measure says what is compared with the labels, and makes figures of it. Called by `strata compare`
and `strata tune`, which say by name what they measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from serve.errors import ConfigError
from serve.evaluation.predictions import is_distribution, own_outputs
from serve.types import Array, Tensors

Kind = Literal["auto", "binary", "classes", "labels", "regression"]
Right = npt.NDArray[np.bool_]


class NothingToCompare(ConfigError):
    """No output can be compared with the labels; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks for: a kind, the output to compare, and above which value it says yes."""

    kind: Kind = "auto"
    tensor: str | None = None
    yes_above: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """How an output is compared with the labels.

    `decision` says in words how a prediction is made of the output. `yes_above` is the value above
    which a binary output or one of several says yes.
    """

    kind: Kind
    tensor: str
    decision: str
    yes_above: float = 0.5

    @property
    def figure(self) -> str:
        """The name of the first of its figures."""
        names = {"labels": "exact match", "regression": "MAE"}
        return names.get(self.kind, "accuracy")

    @property
    def text(self) -> str:
        """What is measured, for people."""
        return f"{self.kind}: {self.decision}"

    def right(self, outputs: Tensors, labels: Array) -> Right:
        """Return which rows are answered rightly: all labels of a row where there are several.

        A row with NaN, which nobody answered, is wrong. Raises ConfigError for a regression, where
        nothing is right or wrong.
        """
        if self.kind == "regression":
            raise ConfigError("a regression has errors and no accuracy")
        rows, output = len(labels), own_outputs(outputs)[self.tensor]
        equal = np.asarray(self._predicted(output) == _truth(self.kind, labels), np.bool_)
        is_absent = _is_absent(output).reshape(rows, -1).any(axis=1)
        return np.asarray(equal.reshape(rows, -1).all(axis=1) & ~is_absent)

    def figures(self, outputs: Tensors, labels: Array) -> Mapping[str, float]:
        """Return figures by name: of classes and binary the accuracy alone."""
        if self.kind == "regression":
            return _errors(own_outputs(outputs)[self.tensor], labels)
        exact = float(np.mean(self.right(outputs, labels)))
        if self.kind != "labels":
            return {"accuracy": exact}
        said = self._predicted(own_outputs(outputs)[self.tensor])
        return {"exact match": exact, **_of_labels(said, _truth("labels", labels))}

    def _predicted(self, output: Array) -> Array:
        if self.kind == "classes" and output.dtype.kind == "f":
            return np.asarray(np.nan_to_num(output, nan=-np.inf).argmax(axis=1))
        if self.kind in ("binary", "labels"):
            flat = output if self.kind == "labels" else output.reshape(len(output))
            return np.asarray(flat > self.yes_above)  # as Keras's BinaryAccuracy
        return output.reshape(len(output))


def tell(asked: Asked, outputs: Tensors, labels: Array) -> Measure:
    """Return the measure for a model's outputs.

    Raises NothingToCompare if no output fits the labels, ConfigError if more than one does or if
    what is asked for does not fit.
    """
    own = own_outputs(outputs)
    if asked.tensor is not None:
        if asked.tensor not in own:
            raise ConfigError(f"there is no output '{asked.tensor}' (there are: {', '.join(own)})")
        own = {asked.tensor: own[asked.tensor]}
    if labels.dtype.hasobject:
        return _of_text(asked, own)
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise ConfigError("a label is NaN; leave rows without a label out of the data")
    kind = _told_kind(own, labels) if asked.kind == "auto" else asked.kind
    match kind:
        case "classes":
            return _of_classes(own, labels)
        case "binary":
            return _of_binary(asked, own, labels)
        case "labels":
            return _of_several(asked, own, labels)
        case _:
            return _of_regression(asked, own, labels)


def _told_kind(own: Tensors, labels: Array) -> Kind:
    """Return what the labels and the outputs look like."""
    if labels.ndim > 1:
        if not _is_yes_or_no(labels):
            return "regression"
        return "classes" if _is_one_hot(labels) else "labels"
    tables = [array for array in own.values() if _is_table(array)]
    ids = [array for array in own.values() if array.dtype.kind in "iu" and _is_column(array)]
    if _are_whole(labels) and (any(map(is_distribution, tables)) or len(ids) == 1):
        return "classes"
    if _are_whole(labels) and len(own) == 1 and tables:
        return "classes"
    return "binary" if _is_yes_or_no(labels) else "regression"


def _of_text(asked: Asked, own: Tensors) -> Measure:
    texts = [name for name, array in own.items() if array.dtype.hasobject]
    if asked.kind not in ("auto", "classes"):
        raise ConfigError(f"labels of text name classes; they cannot be measured as {asked.kind}")
    name = _only(texts, own, "output of text, as the labels are")
    return Measure("classes", name, f"the text of '{name}'")


def _of_classes(own: Tensors, labels: Array) -> Measure:
    tables = [name for name, array in own.items() if _is_table(array)]
    sure = [name for name in tables if is_distribution(own[name])]
    ids = [n for n, array in own.items() if array.dtype.kind in "iu" and _is_column(array)]
    if sure or (tables and len(own) == 1):
        name = _only(sure or tables, own, "output [-1, classes]")
        _require_classes(name, own[name].shape[1], labels)
        return Measure("classes", name, f"the largest of '{name}'")
    name = _only(ids, own, "output [-1, classes], or of class numbers")
    return Measure("classes", name, f"the number in '{name}'")


def _of_binary(asked: Asked, own: Tensors, labels: Array) -> Measure:
    if labels.ndim > 1 or not _is_yes_or_no(labels):
        raise ConfigError("binary needs labels of 0 and 1, one a row")
    columns = [name for name, array in own.items() if _is_number(array) and _is_column(array)]
    name = _only(_if_alone(asked, own, columns), own, "output of one number a row")
    yes_above, what = _decision(asked, own[name])
    return Measure("binary", name, f"'{name}' > {yes_above:g} is yes{what}", yes_above)


def _of_several(asked: Asked, own: Tensors, labels: Array) -> Measure:
    if labels.ndim != 2 or not _is_yes_or_no(labels):
        raise ConfigError("several labels need 'label' [rows, labels] of 0 and 1")
    names = [n for n, array in own.items() if _is_number(array) and array.shape == labels.shape]
    name = _only(names, own, f"output [-1, {labels.shape[1]}], as the labels are")
    yes_above, what = _decision(asked, own[name])
    return Measure("labels", name, f"'{name}' > {yes_above:g} is yes{what}", yes_above)


def _of_regression(asked: Asked, own: Tensors, labels: Array) -> Measure:
    if labels.dtype.kind not in "fiub":
        raise ConfigError("regression needs labels that are numbers")
    wanted = _squeezed(labels).shape
    names = [
        n for n, a in own.items() if a.dtype.kind in "fiu" and _squeezed(a).shape[1:] == wanted[1:]
    ]
    shape = [-1, *wanted[1:]]
    name = _only(_if_alone(asked, own, names), own, f"output of the labels' shape {shape}")
    return Measure("regression", name, f"the distance of '{name}' from the label")


def _if_alone(asked: Asked, own: Tensors, names: list[str]) -> list[str]:
    """Return the names if nobody has to guess: beside others a number may be anything.

    Such as the error of an autoencoder.
    """
    return [] if asked.kind == "auto" and len(own) > 1 else names


def _only(names: list[str], own: Tensors, wanted: str) -> str:
    there = ", ".join(f"{name} {[-1, *array.shape[1:]]}" for name, array in own.items())
    if not names:
        raise NothingToCompare(f"there is no {wanted} (there are: {there})")
    if len(names) > 1:
        raise NothingToCompare(
            f"{', '.join(names)} may each be compared with the labels; choose one with --tensor"
        )
    return names[0]


def _decision(asked: Asked, output: Array) -> tuple[float, str]:
    """Return above which value an output says yes, and why: its values tell what they are."""
    if asked.yes_above is not None:
        return asked.yes_above, ""
    if output.dtype.kind == "b":
        return 0.5, ""
    present = output[~_is_absent(output)]
    if ((present >= 0) & (present <= 1)).all():
        return 0.5, " (probabilities)"
    return 0.0, " (logits)"


def _require_classes(name: str, count: int, labels: Array) -> None:
    if labels.ndim > 1:
        if labels.shape[1] != count:
            raise ConfigError(f"'{name}' has {count} classes, the labels have {labels.shape[1]}")
        return
    if not _are_whole(labels):
        raise ConfigError("classes need labels that are whole numbers, or one-hot")
    if len(labels) and int(labels.min()) == 1 and int(labels.max()) == count:
        raise ConfigError(
            f"the labels count from 1 to {count}, the classes of '{name}' from 0 to {count - 1}; "
            "subtract 1 from the labels"
        )


def _truth(kind: Kind, labels: Array) -> Array:
    if kind in ("binary", "labels"):
        return np.asarray(labels > 0)
    return np.asarray(labels.argmax(axis=1)) if labels.ndim > 1 else labels


def _of_labels(said: Array, truth: Array) -> Mapping[str, float]:
    both = float((said & truth).sum())
    claimed = float(said.sum() + truth.sum())
    return {
        "label accuracy": float((said == truth).mean()),
        "F1": 2 * both / claimed if claimed else 1.0,
    }


def _errors(output: Array, labels: Array) -> Mapping[str, float]:
    """Return the errors of the rows that were answered, and the part that those are."""
    error = _squeezed(output).astype(np.float64) - _squeezed(labels).astype(np.float64)
    error = error.reshape(len(labels), -1)
    kept = error[~np.isnan(error).any(axis=1)]
    if not kept.size:
        raise NothingToCompare("no row has a number")
    found = {"MAE": float(np.abs(kept).mean()), "RMSE": float(np.sqrt((kept**2).mean()))}
    return found if len(kept) == len(error) else {**found, "answered": len(kept) / len(error)}


def _is_absent(array: Array) -> npt.NDArray[np.bool_]:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, np.bool_)


def _is_table(array: Array) -> bool:
    return array.dtype.kind == "f" and array.ndim == 2 and array.shape[1] > 1


def _is_column(array: Array) -> bool:
    return array.ndim >= 1 and array.size == len(array)


def _is_number(array: Array) -> bool:
    return array.dtype.kind in "fb"


def _squeezed(array: Array) -> Array:
    return array.reshape(len(array)) if _is_column(array) else array


def _are_whole(labels: Array) -> bool:
    return labels.dtype.kind in "iub" or bool((labels == np.floor(labels)).all())


def _is_yes_or_no(labels: Array) -> bool:
    found = set(np.unique(labels).tolist())
    return found <= {0, 1} or found == {-1, 1}


def _is_one_hot(labels: Array) -> bool:
    return labels.ndim == 2 and labels.shape[1] > 1 and bool(((labels > 0).sum(axis=1) == 1).all())
