"""Predictions and exit scores of every layer of a cascade for every row, to try thresholds on.

Called by `strata tune`. A layer is computed on all rows, also on those that would not reach it; the
cascade itself is not run: thresholds applies its exit rules to these scores.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serve.config.sections import Prices
from serve.errors import ConfigError, InferenceFailed
from serve.evaluation.comparison import cost_of_a_million
from serve.evaluation.dataset import Dataset
from serve.evaluation.measure import compute_all
from serve.evaluation.quality import Asked, Measure, tell
from serve.evaluation.subject import Subject
from serve.pipelines.cascade import CascadeKind, CascadeLayer
from serve.pipelines.exits import OF_CLASSES, Score, scores_of
from serve.pipelines.wiring import REQUEST, values_of
from serve.types import Array, Tensors


@dataclass(frozen=True, slots=True)
class LayerPredictions:
    """What one layer computed for all rows.

    `right` tells which rows it answers rightly, None for a layer that only abstains; `scores` has
    the number that `rule` compares with `threshold`; the last layer has neither rule nor scores.
    `cost` is for a million rows.
    """

    label: str
    rule: str | None
    threshold: float
    scores: npt.NDArray[np.float64] | None
    right: npt.NDArray[np.bool_] | None
    cost: float

    def rows(self, chosen: Array) -> "LayerPredictions":
        """Return only these rows."""
        scores = None if self.scores is None else self.scores[chosen]
        right = None if self.right is None else self.right[chosen]
        return replace(self, scores=scores, right=right)


def layer_predictions(
    subject: Subject, prices: Prices, data: Dataset, asked: Asked
) -> tuple[list[LayerPredictions], Measure]:
    """Compute every layer on all rows; return what each said, and how that was measured.

    Raises ConfigError if a layer has no output to compare with the labels, if the layers differ in
    what they answer, or if a rule does not fit what is measured.
    """
    assert isinstance(subject.kind, CascadeKind)
    data.inputs_of(subject.member.signature, subject.served.name)  # says what is missing
    values = values_of(REQUEST, data.inputs)
    answered = {spec.name for spec in subject.kind.signature.outputs}
    found: list[LayerPredictions] = []
    told: dict[str, Measure] = {}
    for layer in subject.kind.layers:
        member, rule = layer.wired.member, layer.rule
        inputs = layer.wired.inputs(values)
        outputs, seconds_a_row = _timed(member.compute, inputs, len(data))
        right = None
        if rule.rule != "score_above":
            own = {name: array for name, array in outputs.items() if name in answered}
            told[layer.label] = _told(layer, asked, own, data.labels)
            right = told[layer.label].right(own, data.labels)
        cost = cost_of_a_million(seconds_a_row, subject.served.ray_actor_options, prices)
        found.append(
            LayerPredictions(
                label=member.label,
                rule=rule.rule,
                threshold=rule.threshold,
                scores=_scores(layer, outputs),
                right=right,
                cost=cost,
            )
        )
    return found, _alike(told)


def _told(layer: CascadeLayer, asked: Asked, outputs: Tensors, labels: Array) -> Measure:
    try:
        told = tell(asked, outputs, labels)
    except ConfigError as err:
        raise ConfigError(f"layer '{layer.label}': {err}") from err
    if told.kind == "regression":
        raise ConfigError(
            f"layer '{layer.label}': the labels are quantities, so '{told.tensor}' has errors "
            "and no accuracy; thresholds are chosen by accuracy"
        )
    rule = layer.rule
    if told.kind == "labels" and rule.rule in OF_CLASSES and rule.output == told.tensor:
        raise ConfigError(
            f"layer '{layer.label}': {rule.rule} looks for one class, and of '{told.tensor}' "
            "several may hold; binary_probability looks at each"
        )
    return told


def _scores(layer: CascadeLayer, outputs: Tensors) -> Score | None:
    rule, name = layer.rule.rule, layer.rule.output
    if rule is None or name is None:
        return None
    try:
        return scores_of(rule, outputs[name])
    except InferenceFailed as err:
        raise ConfigError(f"layer '{layer.label}', output '{name}': {err}") from err


def _alike(told: Mapping[str, Measure]) -> Measure:
    """Return the measure of all layers, by their labels."""
    *_, (last, wanted) = told.items()
    for label, measure in told.items():
        if measure != wanted:
            raise ConfigError(
                f"layer '{label}' is measured as {measure.text}, layer '{last}' as {wanted.text}; "
                "make the layers answer alike, or ask for one with --measure, --tensor, --yes-above"
            )
    return wanted


def _timed(
    compute: Callable[[Tensors], Tensors], inputs: Tensors, rows: int
) -> tuple[Tensors, float]:
    """Return outputs for all rows, and seconds a row: the faster of two passes."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        outputs = compute_all(compute, inputs)
        seconds.append(time.perf_counter() - started)
    return outputs, min(seconds) / rows
