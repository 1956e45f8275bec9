"""Whether a candidate's numbers are the model's own, and if not, the worst of them in words."""

from collections.abc import Sequence

import numpy as np

from serve.datatypes import is_float
from serve.engines.function_engine import Infer
from serve.engines.row_independence import TOLERANCE, cause_of, same
from serve.errors import ServeError
from serve.selection.cases import NOT_FINITE, Case, taken
from serve.types import Array, Tensors


def first_difference(infer: Infer, cases: Sequence[Case], tolerance: float = TOLERANCE) -> str:
    """Return in words what a function computes other than it must, empty if nothing.

    Numbers may differ by what kernels round differently. What the model refuses must be refused.
    Where inputs are NaN or infinite an output may be so, too, although the model's own engine made
    a number of it.
    """
    for case in cases:
        found = _difference(infer, case, tolerance)
        if found:
            rows = len(case.rows) if case.rows is not None else "all"
            return f"{found} ({case.sample.origin}, {rows} rows)"
    return ""


def _difference(infer: Infer, case: Case, tolerance: float) -> str:
    inputs = taken(case.sample.inputs, case.rows)
    expected = taken(case.sample.outputs, case.rows)
    try:
        got = infer(inputs)
    except ServeError as err:
        return "" if case.sample.refused else f"it does not compute: {cause_of(err)}"
    if case.sample.refused:
        return "it computes what the model refuses"
    if list(got) != list(expected):
        return f"its outputs are {', '.join(got)} instead of {', '.join(expected)}"
    for name, right in expected.items():
        found = _of_output(name, right, got[name], inputs, case, tolerance)
        if found:
            return found
    return ""


def _of_output(
    name: str, right: Array, got: Array, inputs: Tensors, case: Case, tolerance: float
) -> str:
    if right.shape != got.shape or right.dtype != got.dtype:
        return (
            f"output '{name}' is {got.dtype} {list(got.shape)} instead of {right.dtype} "
            f"{list(right.shape)}"
        )
    if case.sample.origin == NOT_FINITE and is_float(right.dtype):
        right, got = _where_it_counts(right, got, inputs)
    allowed = case.sample.allowed.get(name, 0.0)
    if same(right, got, tolerance, allowed):
        return ""
    return _worst(name, right, got)


def _where_it_counts(right: Array, got: Array, inputs: Tensors) -> tuple[Array, Array]:
    """Return both with 0 where a row's input is no number and neither is what is got of it."""
    count = len(right) if right.ndim else 0
    spoiled = np.zeros(count, bool)
    for array in inputs.values():
        if is_float(array.dtype) and array.ndim and len(array) == count:
            with np.errstate(invalid="ignore"):
                finite = np.isfinite(array.astype(np.float64)).reshape(count, -1).all(axis=1)
            spoiled |= ~finite
    rows = spoiled.reshape(-1, *(1,) * (right.ndim - 1)) if count else np.True_
    excused = rows & ~np.isfinite(got.astype(np.float64))
    zero = right.dtype.type(0)
    return np.where(excused, zero, right), np.where(excused, zero, got)


def _worst(name: str, right: Array, got: Array) -> str:
    """Return in words where an output is furthest from what it must be."""
    if is_float(right.dtype):
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(got.astype(np.float64) - right.astype(np.float64))
        one_is_none = np.isfinite(right.astype(np.float64)) != np.isfinite(got.astype(np.float64))
        distance = np.where(one_is_none, np.inf, np.nan_to_num(apart))
    else:
        distance = (got != right).astype(np.float64)
    place = np.unravel_index(int(np.argmax(distance)), right.shape) if right.ndim else ()
    where = f"[{', '.join(str(index) for index in place)}]"
    return f"output '{name}'{where} is {_text(got[place])} instead of {_text(right[place])}"


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)[:60]
