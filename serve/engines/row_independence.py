"""Whether a signature computes each row by itself: batching has to be earned.

Called by trial while a version is loaded. An unknown dimension 0 may be a batch, but
also the height of a picture, the time of a recording, or candidates that are ranked against each
other; stacking, padding or cutting those changes every number. So rows are computed in company,
alone, in another order and padded, and only the same numbers earn a signature its batches.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from serve.engines.error_words import words
from serve.errors import ServeError
from serve.types import Array, RowsVerdict, Tensors

Infer = Callable[[Tensors], Tensors]
Rows = npt.NDArray[np.intp]

# Kernels add up in another order for another number of rows: so much of a number, and as much of
# the root mean square of its tensor, may differ. Two-byte floats have 8 or 11 bits.
TOLERANCE = 1e-4
_TOLERANCE_OF_HALVES = 2e-2
_MUCH = 0.05
# Cards compute float32 by TF32, which has 11 bits, in the kernels that they choose by size.
TOLERANCE_OF_CARDS = 5e-3
# A model makes more of rounding where it is given what it was not made for, such as pixels of 0 to
# 255 instead of 0 to 1. How much more, place by place, is seen by changing its inputs by so many of
# their last bits, so often. What kernels were seen to differ by is at most as much; for rounding so
# many times that is allowed, and never more than so much of what is usual in the place.
_LAST_BITS = 32
_TURNS = 8
_TIMES = 4
_MOST_BY_ROUNDING = 1e-2


def prove(
    infer: Infer, samples: Iterable[tuple[str, Tensors]], tolerance: float = TOLERANCE
) -> RowsVerdict:
    """Return whether all samples that compute have rows that do not see each other.

    `samples` are several rows each, not all alike, with a word for where they are from.
    """
    passed = []
    refused = ""
    for origin, rows in samples:
        try:
            whole = infer(rows)
        except ServeError as err:
            refused = cause_of(err)
            continue
        found = _difference(infer, rows, whole, tolerance)
        if found is not None:
            return RowsVerdict(False, f"{found} ({origin})")
        passed.append(origin)
    if not passed:
        why = f"no rows that were tried compute: {refused}" if refused else "there are no rows"
        return RowsVerdict(False, f"{why}; publish it with --sample to show some that do")
    reason = "each row computes to the same alone, in company, in another order and padded"
    return RowsVerdict(True, f"{reason} ({', '.join(passed)})")


def _difference(infer: Infer, rows: Tensors, whole: Tensors, tolerance: float) -> str | None:
    """Return in words how the rows see each other, None if they do not."""
    count = len(next(iter(rows.values())))
    for name, array in whole.items():
        if array.ndim == 0 or len(array) != count:
            return f"output '{name}' has shape {list(array.shape)} for {count} rows"
    last = count - 1
    turned = [*range(last, -1, -1)]
    trials = {
        "computed again": [*range(count)],
        "alone": [last],
        "as the first alone": [0],
        "in another order": turned,
        "padded": [*range(last), *[0] * (count + 1)],
        **{f"{row + 1} of {count} alone": [row] for row in range(1, last)},
    }
    allowed: Tensors | None = None
    for how, chosen in trials.items():
        found = _trial(infer, rows, whole, chosen, tolerance, allowed)
        if found is not None and allowed is None:
            allowed = made_of_rounding(infer, rows, whole)
            found = _trial(infer, rows, whole, chosen, tolerance, allowed)
        if found is not None:
            return f"{found} {how}"
    return None


def made_of_rounding(infer: Infer, rows: Tensors, whole: Tensors) -> Tensors:
    """Return by how much rounding may change each place of a row, by output, by a measurement.

    Nothing is there for outputs that are no floats, and 0 for inputs without so many bits, integers
    and texts. Nothing at all where the model refuses others, or computes the same rows to any other
    number the second time: that is chance, of which no measurement tells rounding.
    """
    floats = {name: array for name, array in whole.items() if array.dtype.kind == "f"}
    largest = {name: np.zeros(array.shape[1:]) for name, array in floats.items()}
    try:
        again = infer(rows)
        turns = [
            infer({name: _moved(array, turn) for name, array in rows.items()})
            for turn in range(_TURNS)
        ]
    except ServeError:
        return {}
    for name, array in floats.items():
        if not np.array_equal(array, again[name], equal_nan=True):
            return {}
        for moved in turns:
            if moved[name].shape != array.shape:
                return {}
            largest[name] = np.maximum(largest[name], _distance(array, moved[name]).max(axis=0))
    return {
        name: np.minimum(_TIMES * largest[name], _MOST_BY_ROUNDING * _finite(_usual(array)))
        for name, array in floats.items()
    }


def _moved(array: Array, turn: int) -> Array:
    """Return numbers that differ in their last bits, some up and some down."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 2:
        return array
    signs = np.random.default_rng(turn).choice([-1.0, 1.0], array.shape)
    moved = array * (1 + signs * _LAST_BITS * float(np.finfo(array.dtype).eps))
    return moved.astype(array.dtype)


def _distance(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        return _finite(np.abs(a.astype(np.float64) - b))


def _usual(a: Array) -> Array:
    """Return the root mean square of each place over all rows."""
    with np.errstate(invalid="ignore", over="ignore"):
        usual: Array = np.sqrt(np.mean(a.astype(np.float64) ** 2, axis=0))
    return usual


def _finite(a: Array) -> Array:
    """Return 0 for what is no number, and for an infinity."""
    return np.where(np.isfinite(a), a, 0.0)


def _trial(
    infer: Infer,
    rows: Tensors,
    whole: Tensors,
    chosen: list[int],
    tolerance: float,
    allowed: Tensors | None,
) -> str | None:
    try:
        got = infer({name: array[chosen] for name, array in rows.items()})
    except ServeError as err:
        return f"{len(chosen)} of its rows do not compute ({cause_of(err)}),"
    return difference(whole, got, chosen, tolerance, allowed)


def difference(
    whole: Tensors,
    got: Tensors,
    chosen: Sequence[int] | Rows,
    tolerance: float = TOLERANCE,
    allowed: Tensors | None = None,
) -> str | None:
    """Return in words what is other in outputs of `chosen` rows than in those of the whole.

    `allowed` is by how much each place of a row may differ besides, by output. None is returned if
    they are the same.
    """
    for name, expected in whole.items():
        if got[name].shape[:1] != (len(chosen),):
            return f"output '{name}' has shape {list(got[name].shape)} for {len(chosen)} rows,"
        besides = (allowed or {}).get(name, 0.0)
        if not same(expected[chosen], got[name], tolerance, besides):
            return f"output '{name}' has other numbers for a row"
    return None


def same(
    expected: Array, got: Array, tolerance: float = TOLERANCE, allowed: Array | float = 0.0
) -> bool:
    """Tell whether two tensors are the same, but for what kernels round differently.

    `allowed` is by how much they may differ besides, by the place in a row.
    Places in a row may be of different size, a price beside a probability: what rounds the large
    ones shall not hide that small ones are others altogether.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if expected.dtype.kind not in "fV":  # ml_dtypes' bfloat16 is of kind V
        return bool(np.array_equal(expected, got))
    if expected.dtype.itemsize <= 2:
        tolerance = max(tolerance, _TOLERANCE_OF_HALVES)
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = a[np.isfinite(a)]
    scale = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    if not np.isclose(b, a, rtol=tolerance, atol=tolerance * scale + allowed, equal_nan=True).all():
        return False
    return a.ndim < 2 or not _has_others(a, b, floor=tolerance * scale / 10)


def _has_others(a: Array, b: Array, floor: float) -> bool:
    """Tell whether numbers differ by much of what is usual in their place, and by the floor."""
    with np.errstate(invalid="ignore", over="ignore"):
        # NaN and infinities were compared before; what is compared to them is false.
        return bool((np.abs(b - a) > np.maximum(_MUCH * _usual(a), floor)).any())


def cause_of(err: ServeError) -> str:
    """Return what the model says that it raised."""
    return words(err.__cause__ or err)
