"""What candidates have to compute: rows, and what the model's own engine makes of them.

Made where the version is loaded as it is, read by candidates in processes of their own. The rows
are the version's own sample and made-up ones of every kind of values; they are computed at every
allowed batch size, in another order, and with numbers that are none. What the model refuses, such
as an index outside of a table, a candidate has to refuse, too: some make a number of it.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve.datatypes import DATATYPES, is_float
from serve.engines import sample_rows
from serve.engines.function_engine import FunctionEngine, Infer
from serve.engines.row_independence import made_of_rounding, same
from serve.engines.sample_rows import Kind
from serve.errors import RepositoryError, ServeError
from serve.types import Array, Signature, Tensors

_INDEX = "cases.json"
_ARRAYS = "cases.npz"
NOT_FINITE = "NaN and infinities"
_MOST_SAMPLES = 16  # of a signature; those of the version's own and of other kinds go first

# What no sample that is made to be computed has: libraries divide, shift and index with negative
# integers each in their own way.
_EDGES = (
    Kind("negative integers", None, (-9, -1), sample_rows.words),
    Kind("integers of both signs", None, (-300, 300), sample_rows.words),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows that a signature computes, and what they compute to.

    `origin` says for people what kind of rows they are. `allowed` is by how much each place of a
    row's outputs may differ for rounding alone, by output. `refused` says that the model computes
    nothing of these rows, and raises.
    """

    signature: str
    origin: str
    inputs: Tensors
    outputs: Tensors
    allowed: Tensors
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A call: which rows of a sample in which order; None for a sample that is taken whole."""

    sample: Sample
    rows: tuple[int, ...] | None


def make_samples(engine: FunctionEngine) -> list[Sample]:
    """Return samples of every signature, computed by the engine.

    Raises RepositoryError if a signature has none, or computes other numbers the next time.
    """
    return [
        sample
        for name, signature in engine.signatures.items()
        for sample in _samples(engine, name, signature)
    ]


def _samples(engine: FunctionEngine, name: str, signature: Signature) -> list[Sample]:
    found: list[Sample] = []
    for origin, inputs in _chosen(engine.samples(name)):
        outputs = engine.infer(name, inputs)
        again = engine.infer(name, inputs)
        if not all(same(outputs[key], again[key]) for key in outputs):
            raise RepositoryError(f"signature '{name}' computes other numbers each time")
        found.append(Sample(name, origin, inputs, outputs, _allowed(engine, signature, inputs)))
    if not found:
        raise RepositoryError(f"nothing is known that signature '{name}' computes")
    return [*found, *_edges(engine, signature), *_not_finite(engine, found)]


def _edges(engine: FunctionEngine, signature: Signature) -> list[Sample]:
    """Return samples with negative integers, and one for each kind of values that is refused."""
    has_signed = any(DATATYPES[spec.datatype].numpy.kind == "i" for spec in signature.inputs)
    known = (*sample_rows.kinds_of(signature), *sample_rows.PLAIN)
    found = []
    for kind in (*known, *_EDGES) if has_signed else known:
        for inputs in sample_rows.inputs_of(signature, kind, sample_rows.ROWS):
            sample = _computed(engine, signature.name, kind.name, inputs)
            if sample.refused or kind in _EDGES:
                found.append(sample)
                break
    return found


def _computed(engine: FunctionEngine, signature: str, origin: str, inputs: Tensors) -> Sample:
    try:
        return Sample(signature, origin, inputs, engine.infer(signature, inputs), {})
    except ServeError:
        return Sample(signature, origin, inputs, {}, {}, refused=True)


def _chosen(samples: Sequence[tuple[str, Tensors]]) -> list[tuple[str, Tensors]]:
    """Return the first sample of each origin and then the others, as many as may be."""
    firsts: dict[str, int] = {}
    for index, (origin, _) in enumerate(samples):
        firsts.setdefault(origin, index)
    order = [*firsts.values(), *(i for i in range(len(samples)) if i not in firsts.values())]
    return [samples[index] for index in order[:_MOST_SAMPLES]]


def _allowed(engine: FunctionEngine, signature: Signature, inputs: Tensors) -> Tensors:
    if not signature.batched:
        return {}
    infer: Infer = lambda rows: engine.infer(signature.name, rows)  # noqa: E731
    return made_of_rounding(infer, inputs, infer(inputs))


def _not_finite(engine: FunctionEngine, samples: Sequence[Sample]) -> list[Sample]:
    """Return a sample with NaN and infinities in its first rows, if there are floats."""
    for sample in samples:
        inputs = {name: _spoiled(array) for name, array in sample.inputs.items()}
        if all(inputs[name] is sample.inputs[name] for name in inputs):
            continue
        found = _computed(engine, sample.signature, NOT_FINITE, inputs)
        return [replace(found, allowed=sample.allowed)]
    return []


def _spoiled(array: Array) -> Array:
    if not is_float(array.dtype) or array.ndim < 1 or len(array) < 2 or array.size == 0:
        return array
    spoiled = array.copy()
    rows = spoiled.reshape(len(array), -1)
    for row, value in zip(range(len(rows) - 1), (np.nan, np.inf, -np.inf), strict=False):
        rows[row, rows.shape[1] // 2] = value
    return spoiled


def cases_of(samples: Sequence[Sample], signature: Signature, sizes: Sequence[int]) -> list[Case]:
    """Return the calls that a candidate has to make for one signature."""
    own = [sample for sample in samples if sample.signature == signature.name]
    return [
        case
        for index, sample in enumerate(own)
        for case in (
            _batches(sample, index, sizes)
            if signature.batched and not sample.refused
            else [Case(sample, None)]
        )
    ]


def _batches(sample: Sample, index: int, sizes: Sequence[int]) -> Iterator[Case]:
    count = len(next(iter(sample.inputs.values())))
    yield Case(sample, tuple(range(count)))
    yield Case(sample, tuple(reversed(range(count))))
    for size in sizes if index == 0 else sizes[-1:]:
        yield Case(sample, tuple(row % count for row in range(size)))


def taken(tensors: Tensors, rows: Sequence[int] | None) -> Tensors:
    """Return rows of tensors in an order, all of them as they are for None."""
    if rows is None:
        return tensors
    chosen = np.asarray(rows, np.intp)
    return {name: array[chosen] for name, array in tensors.items()}


def write_samples(samples: Sequence[Sample], folder: Path) -> None:
    """Write samples for another process."""
    arrays: dict[str, Array] = {}
    index = []
    for number, sample in enumerate(samples):
        parts = {"inputs": sample.inputs, "outputs": sample.outputs, "allowed": sample.allowed}
        for part, tensors in parts.items():
            for place, array in enumerate(tensors.values()):
                arrays[f"{number}-{part}-{place}"] = array
        names = {part: list(tensors) for part, tensors in parts.items()}
        known = {"signature": sample.signature, "origin": sample.origin, "refused": sample.refused}
        index.append({**known, **names})
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / _ARRAYS, **arrays)  # type: ignore[arg-type]  # numpy's own stub is too strict
    (folder / _INDEX).write_text(json.dumps(index))


def read_samples(folder: Path) -> list[Sample]:
    """Read what `write_samples` wrote. Raises RepositoryError if it is broken."""
    try:
        index = json.loads((folder / _INDEX).read_text())
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            return [_sample(number, each, arrays) for number, each in enumerate(index)]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as err:
        raise RepositoryError(f"the rows in '{folder}' cannot be read: {err}") from err


def _sample(number: int, known: dict[str, Any], arrays: dict[str, Array]) -> Sample:
    parts = {
        part: {name: arrays[f"{number}-{part}-{place}"] for place, name in enumerate(known[part])}
        for part in ("inputs", "outputs", "allowed")
    }
    return Sample(
        str(known["signature"]), str(known["origin"]), **parts, refused=bool(known["refused"])
    )
