"""Exit rules: which rows a layer is sure of. Pure numpy, one number a row against a threshold.

Sources: maximum class probability as confidence, Hendrycks and Gimpel 2017, section 2; margin and
entropy, Settles, "Active Learning Literature Survey", section 3.1.
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from serve.errors import InferenceFailed
from serve.types import Array, TensorSpec

Score = npt.NDArray[np.float64]

_ROUNDING = 1e-2  # how far FP16's largest probability may be above 1


def max_probability(probabilities: Array) -> Score:
    """Return the largest probability of each row; higher is surer."""
    return np.asarray(np.max(probabilities, axis=1, initial=0.0), np.float64)


def margin(probabilities: Array) -> Score:
    """Return the distance of the two largest probabilities; higher is surer."""
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def entropy(probabilities: Array) -> Score:
    """Return the entropy of each row in nats; lower is surer."""
    p = probabilities
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1)), axis=1))


def binary_probability(probabilities: Array) -> Score:
    """Return p or 1 - p of each row, whichever is larger; of several p the least sure one."""
    p = probabilities[:, np.newaxis] if probabilities.ndim == 1 else probabilities
    return np.asarray(np.min(np.maximum(p, 1 - p), axis=1, initial=1.0))


def score(values: Array) -> Score:
    """Return a score tensor as it is, one number a row."""
    return np.asarray(values.reshape(len(values)))


SCORES: Mapping[str, Callable[[Array], Score]] = {
    "max_probability": max_probability,
    "margin": margin,
    "entropy": entropy,
    "binary_probability": binary_probability,
    "score_at_most": score,
    "score_above": score,
}
_AT_LEAST = {"max_probability", "margin", "binary_probability"}
OF_CLASSES = {"max_probability", "margin", "entropy"}
_OF_PROBABILITIES = {*OF_CLASSES, "binary_probability"}


def exits(rule: str, threshold: float, values: Array) -> npt.NDArray[np.bool_]:
    """Return which rows leave by a rule; NaN never does. Raises InferenceFailed as scores_of."""
    return passes(rule, threshold, scores_of(rule, values))


def scores_of(rule: str, values: Array) -> Score:
    """Return the number of each row that a rule compares with its threshold.

    Raises InferenceFailed for values that the rule says nothing about, such as logits.
    """
    misfit = _misfit(rule, values.shape)
    if misfit:
        raise InferenceFailed(misfit)
    values = values.astype(np.float64)
    if rule in _OF_PROBABILITIES:
        outside = values[(values < -_ROUNDING) | (values > 1 + _ROUNDING)]
        if outside.size:
            raise InferenceFailed(
                f"{rule} looks at probabilities, and there is a value of {outside[0]:.4g}; end the "
                "model with a softmax or a sigmoid"
            )
    return SCORES[rule](values)


def passes(rule: str, threshold: float, scores: Score) -> npt.NDArray[np.bool_]:
    """Return which scores are on the side of the threshold that leaves."""
    if rule in _AT_LEAST:
        return scores >= threshold
    return scores > threshold if rule == "score_above" else scores <= threshold


def misfit(rule: str, spec: TensorSpec) -> str:
    """Return why a rule says nothing about a tensor, and which one would; empty if it fits."""
    if spec.shape is None:
        return ""
    found = _misfit(rule, spec.shape)
    return f"{found}; '{spec.name}' is {list(spec.shape)}" if found else ""


def _misfit(rule: str, shape: tuple[int, ...]) -> str:
    """Return why a rule does not fit a shape, whose unknown sizes are -1 and fit everything."""
    inner = shape[1:]
    is_one = all(size in (1, -1) for size in inner)
    if rule in OF_CLASSES:
        if len(inner) == 1 and inner[0] != 1:
            return ""
        other = "one probability a row has binary_probability" if is_one else "choose one by output"
        return f"{rule} needs the probabilities of two classes or more, [-1, classes]: {other}"
    if rule == "binary_probability":
        return "" if len(inner) <= 1 else f"{rule} needs [-1], [-1, 1] or [-1, labels]"
    if is_one:
        return ""
    return f"{rule} needs one number a row, [-1] or [-1, 1]"
