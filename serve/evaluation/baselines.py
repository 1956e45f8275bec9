"""Make a version's drift baseline: run the loaded model over rows and keep their distributions.

Called by `strata publish --baseline` and `strata train`, while a version is staged.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from serve.batching.merging import rows_of
from serve.drift.baseline import Baseline, TensorBaseline, describe, is_error
from serve.drift.score import LEAST_ROWS
from serve.drift.statistics import Kind
from serve.engines.engine import Engine
from serve.errors import ConfigError, InvalidRequest
from serve.evaluation.dataset import inputs_of, read_arrays
from serve.evaluation.measure import compute_all
from serve.evaluation.predictions import is_distribution
from serve.protocols.signature_check import check
from serve.types import Array, Signature, Tensors, TensorSpec

_MOST_ROWS = 10_000  # more would sharpen no score: the recent rows compared with it are fewer
_MOST_FEATURES = 16  # up to so many numbers a row are watched one by one
_MOST_WORDS = 100


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows that a model should be given, by input; `source` names them in messages.

    `reconstruction_error` is the output of an autoencoder that has the error of each row.
    """

    inputs: Tensors
    source: str
    reconstruction_error: str | None = None


def read_examples(path: Path, reconstruction_error: str | None) -> Examples:
    """Read an .npz of arrays by input name. Raises ConfigError."""
    return Examples(read_arrays(path), str(path), reconstruction_error)


def make_baseline(engine: Engine, examples: Examples, model: str) -> Baseline:
    """Compute the examples with the default signature. Raises ConfigError if they do not fit."""
    signature = engine.signatures[engine.default_signature]
    inputs = _checked(examples, signature, model)
    error = examples.reconstruction_error
    if error is not None:
        _require_error(error, signature, model)
    outputs = compute_all(partial(engine.infer, signature.name), inputs)
    return Baseline(
        signature.name,
        rows_of(inputs),
        _described(signature.inputs, inputs),
        _described(signature.outputs, outputs),
        error,
    )


def _checked(examples: Examples, signature: Signature, model: str) -> Tensors:
    if not signature.batched:
        raise ConfigError(
            f"model '{model}' does not compute row by row, so there are no rows to make a baseline "
            f"of: {signature.batched_reason}"
        )
    try:
        inputs = check(inputs_of(examples.inputs, signature, model), signature, model)
    except (ConfigError, InvalidRequest) as err:
        raise ConfigError(f"{examples.source}: {err}") from err
    rows = rows_of(inputs)
    if rows < LEAST_ROWS:
        raise ConfigError(
            f"{examples.source}: has {rows} rows; a baseline needs {LEAST_ROWS}, or the same data "
            "would seem to drift by chance"
        )
    chosen = np.linspace(0, rows - 1, min(rows, _MOST_ROWS)).astype(int)
    return {name: array[chosen] for name, array in inputs.items()}


def _require_error(name: str, signature: Signature, model: str) -> None:
    fitting = [spec.name for spec in signature.outputs if is_error(spec)]
    if name not in fitting:
        raise ConfigError(
            f"model '{model}' has no output '{name}' with one number a row "
            f"(such outputs: {', '.join(fitting) or 'none'})"
        )


def _described(specs: tuple[TensorSpec, ...], tensors: Tensors) -> dict[str, TensorBaseline]:
    described = {
        spec.name: describe(_kind_of(tensors[spec.name], spec), tensors[spec.name])
        for spec in specs
    }
    return {name: tensor for name, tensor in described.items() if tensor.statistics}


def _kind_of(array: Array, spec: TensorSpec) -> Kind:
    width = array[:1].size
    if array.dtype.hasobject:
        is_vocabulary = width == 1 and len(set(array.ravel())) <= _MOST_WORDS
        return "categories" if is_vocabulary else "text"
    if is_distribution(array):
        return "classes"
    is_fixed = -1 not in (spec.shape or (-1,))[1:]
    return "features" if is_fixed and width <= _MOST_FEATURES else "summary"
