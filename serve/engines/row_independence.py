"""Whether a signature computes each row by itself: batching has to be earned.

Called by trial while a version is loaded. An unknown dimension 0 may be a batch, but
also the height of a picture, the time of a recording, or candidates that are ranked against each
other; stacking, padding or cutting those changes every number. So rows are computed in company,
alone, in another order and padded, and only the same numbers earn a signature its batches.
"""

from collections.abc import Callable, Iterable

import numpy as np

from serve.engines.tensorflow_errors import words
from serve.errors import ServeError
from serve.types import Array, RowsVerdict, Tensors

Infer = Callable[[Tensors], Tensors]

# Kernels add up in another order for another number of rows: so much of a number, and as much of
# the root mean square of its tensor, may differ. Two-byte floats have 8 or 11 bits.
TOLERANCE = 1e-4
_TOLERANCE_OF_HALVES = 2e-2
# Cards compute float32 by TF32, which has 11 bits, in the kernels that they choose by size.
TOLERANCE_OF_CARDS = 5e-3


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
        difference = _difference(infer, rows, whole, tolerance)
        if difference is not None:
            return RowsVerdict(False, f"{difference} ({origin})")
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
    }
    for how, chosen in trials.items():
        differs = _trial(infer, rows, whole, chosen, tolerance)
        if differs is not None:
            return f"{differs} {how}"
    return None


def _trial(
    infer: Infer, rows: Tensors, whole: Tensors, chosen: list[int], tolerance: float
) -> str | None:
    try:
        got = infer({name: array[chosen] for name, array in rows.items()})
    except ServeError as err:
        return f"{len(chosen)} of its rows do not compute ({cause_of(err)}),"
    for name, expected in whole.items():
        if len(got[name]) != len(chosen):
            return f"output '{name}' has {len(got[name])} rows for {len(chosen)},"
        if not same(expected[chosen], got[name], tolerance):
            return f"output '{name}' has other numbers for a row"
    return None


def same(expected: Array, got: Array, tolerance: float = TOLERANCE) -> bool:
    """Tell whether two tensors are the same, but for what kernels round differently."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if expected.dtype.kind not in "fV":  # ml_dtypes' bfloat16 is of kind V
        return bool(np.array_equal(expected, got))
    if expected.dtype.itemsize <= 2:
        tolerance = max(tolerance, _TOLERANCE_OF_HALVES)
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = a[np.isfinite(a)]
    scale = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return bool(np.allclose(b, a, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def cause_of(err: ServeError) -> str:
    """Return what the model says that it raised."""
    return words(err.__cause__ or err)
