"""Exit rules: which rows a layer is sure of. Pure numpy, one number a row against a threshold.

Sources: maximum class probability as confidence, Hendrycks and Gimpel 2017, section 2; margin and
entropy, Settles, "Active Learning Literature Survey", section 3.1.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from serve.types import Array

Score = npt.NDArray[np.float64]


def max_probability(probabilities: Array) -> Score:
    """Return the largest probability of each row; higher is surer."""
    return np.asarray(np.max(probabilities, axis=1, initial=0.0), np.float64)


def margin(probabilities: Array) -> Score:
    """Return the distance of the two largest probabilities; higher is surer."""
    if probabilities.shape[1] < 2:
        return max_probability(probabilities)
    two = np.partition(probabilities.astype(np.float64), -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def entropy(probabilities: Array) -> Score:
    """Return the entropy of each row in nats; lower is surer."""
    p = probabilities.astype(np.float64)
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1))


def score(values: Array) -> Score:
    """Return a score tensor as it is, one number a row."""
    return values.reshape(len(values), -1)[:, 0].astype(np.float64)


SCORES: Mapping[str, Callable[[Array], Score]] = {
    "max_probability": max_probability,
    "margin": margin,
    "entropy": entropy,
    "score_at_most": score,
    "score_above": score,
}
_AT_LEAST = {"max_probability", "margin"}


def exits(rule: str, threshold: float, values: Array) -> npt.NDArray[np.bool_]:
    """Return which rows leave by a rule; NaN never does."""
    return passes(rule, threshold, SCORES[rule](values))


def passes(rule: str, threshold: float, scores: Score) -> npt.NDArray[np.bool_]:
    """Return which scores are on the side of the threshold that leaves."""
    if rule in _AT_LEAST:
        return scores >= threshold
    return scores > threshold if rule == "score_above" else scores <= threshold
