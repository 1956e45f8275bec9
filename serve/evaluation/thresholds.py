"""Sweep a cascade's thresholds over its layers' scores, and choose by accuracy or cost.

Called by `strata tune`. Pure numpy: every combination is tried on the same predictions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from serve.errors import InvalidRequest
from serve.evaluation.cascade_layers import LayerPredictions
from serve.pipelines.exits import passes
from serve.types import Array

# Rules by which a layer answers. A layer that abstains says that a row is none of the known
# classes, which labels of known classes cannot judge: its threshold stays as it is.
TUNED = ("max_probability", "margin", "entropy", "binary_probability", "score_at_most")
_MOST = 400  # values that are tried for one threshold; fewer where several are tried together
_COMBINATIONS = 20_000


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy and cost of a cascade with some thresholds, one for each layer that is tuned.

    `accuracy` counts a row that is abstained from as wrong; `cost` is that of a million requests of
    one row; `exits` are the parts of the rows that each layer answered.
    """

    thresholds: tuple[float, ...]
    accuracy: float
    cost: float
    exits: tuple[float, ...]


def candidates(layers: Sequence[LayerPredictions]) -> list[tuple[float, ...]]:
    """Return the combinations of thresholds to try: values that rows really have."""
    tuned = [layer for layer in layers if layer.rule in TUNED]
    if not tuned:
        raise InvalidRequest(f"no layer has a rule that can be tuned ({', '.join(TUNED)})")
    most = min(_MOST, int(_COMBINATIONS ** (1 / len(tuned))))
    return list(product(*(_values(layer, most) for layer in tuned)))


def _values(layer: LayerPredictions, most: int) -> list[float]:
    """Return scores at even steps of their ranks, in four digits, and one that nobody reaches."""
    assert layer.scores is not None
    quantiles = np.quantile(layer.scores, np.linspace(0, 1, most), method="nearest")
    kept = {float(f"{value:.4g}") for value in quantiles if np.isfinite(value)}
    if layer.rule in {"max_probability", "margin", "binary_probability"}:
        kept = {min(value, 1.0) for value in kept} | {1.0}
    return sorted(kept)


def evaluate(layers: Sequence[LayerPredictions], thresholds: tuple[float, ...]) -> Point:
    """Return what the cascade would reach with these thresholds, without running it."""
    last = layers[-1].right
    assert last is not None
    waiting = np.ones(len(last), np.bool_)
    right, cost, shares = 0, 0.0, []
    left = iter(thresholds)
    for layer in layers:
        cost += layer.cost * float(waiting.mean())
        leaves = waiting & _leaves(layer, left)
        if layer.right is not None:
            right += int(layer.right[leaves].sum())
        shares.append(float(leaves.mean()))
        waiting &= ~leaves
    return Point(thresholds, right / len(last), cost, tuple(shares))


def last_alone(layers: Sequence[LayerPredictions]) -> Point:
    """Return what the last layer reaches without those before it: a point without thresholds."""
    last = evaluate(layers[-1:], ())
    return Point((), last.accuracy, last.cost, (*[0.0] * (len(layers) - 1), 1.0))


def _leaves(layer: LayerPredictions, thresholds: Iterator[float]) -> Array:
    if layer.rule is None or layer.scores is None:
        return np.ones(1, np.bool_)  # everything
    threshold = next(thresholds) if layer.rule in TUNED else layer.threshold
    return passes(layer.rule, threshold, layer.scores)


def choose(points: Sequence[Point], min_accuracy: float | None, max_cost: float | None) -> Point:
    """Return the cheapest point that is accurate enough, or the most accurate that is cheap enough.

    Of two that are alike in that the one without thresholds wins, the last layer alone. Raises
    InvalidRequest if there is none, saying how near the best one comes.
    """
    if min_accuracy is not None:
        enough = [point for point in points if point.accuracy >= min_accuracy]
        if not enough:
            best = max(point.accuracy for point in points)
            raise InvalidRequest(
                f"no thresholds, nor the last layer alone, reach an accuracy of {min_accuracy:.2%};"
                f" the best is {best:.2%}"
            )
        return min(enough, key=lambda p: (p.cost, -p.accuracy, len(p.thresholds)))
    cheap = [point for point in points if max_cost is None or point.cost <= max_cost]
    if not cheap:
        least = min(point.cost for point in points)
        raise InvalidRequest(
            f"no thresholds cost {max_cost:g} a million requests or less; the cheapest cost "
            f"{least:.3g}"
        )
    return max(cheap, key=lambda p: (p.accuracy, -p.cost, -len(p.thresholds)))
