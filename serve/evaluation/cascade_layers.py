"""Predictions and exit scores of every layer of a cascade for every row, to try thresholds on.

Called by `strata tune`. A layer is computed on all rows, also on those that would not reach it; the
cascade itself is not run: thresholds applies its exit rules to these scores.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from serve.config.sections import Prices
from serve.errors import ConfigError
from serve.evaluation.comparison import cost_of_a_million
from serve.evaluation.dataset import Dataset
from serve.evaluation.measure import compute_all
from serve.evaluation.predictions import predicted
from serve.evaluation.subject import Subject
from serve.pipelines.cascade import CascadeKind
from serve.pipelines.exits import SCORES
from serve.pipelines.wiring import REQUEST, values_of
from serve.types import Array, Tensors


@dataclass(frozen=True, slots=True)
class LayerPredictions:
    """What one layer computed for all rows.

    `predictions` has one for each row, None for a layer that only abstains; `scores` has the number
    that `rule` compares with `threshold`; the last layer has neither rule nor scores. `cost` is for
    a million rows.
    """

    label: str
    rule: str | None
    threshold: float
    scores: npt.NDArray[np.float64] | None
    predictions: Array | None
    cost: float

    def rows(self, chosen: Array) -> "LayerPredictions":
        """Return only these rows."""
        scores = None if self.scores is None else self.scores[chosen]
        predictions = None if self.predictions is None else self.predictions[chosen]
        return replace(self, scores=scores, predictions=predictions)


def layer_predictions(subject: Subject, prices: Prices, data: Dataset) -> list[LayerPredictions]:
    """Compute every layer on all rows.

    Raises ConfigError if a layer has no output to compare with the labels.
    """
    assert isinstance(subject.kind, CascadeKind)
    data.inputs_of(subject.member.signature, subject.served.name)  # says what is missing
    values = values_of(REQUEST, data.inputs)
    found = []
    for layer in subject.kind.layers:
        member, rule = layer.wired.member, layer.rule
        inputs = layer.wired.inputs(values)
        outputs, seconds_a_row = _timed(member.compute, inputs, len(data))
        predictions = predicted(outputs, data.labels)
        if predictions is None and rule.rule != "score_above":
            raise ConfigError(
                f"layer '{member.label}' has no output to compare with the labels "
                f"(it has: {', '.join(outputs)})"
            )
        scores = None
        if rule.rule is not None and rule.output is not None:
            scores = SCORES[rule.rule](outputs[rule.output])
        cost = cost_of_a_million(seconds_a_row, subject.served.ray_actor_options, prices)
        found.append(
            LayerPredictions(
                label=member.label,
                rule=rule.rule,
                threshold=rule.threshold,
                scores=scores,
                predictions=predictions,
                cost=cost,
            )
        )
    return found


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
