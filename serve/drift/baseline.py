"""A version's drift baseline: histograms of its tensors, in a small JSON file in its folder.

Made by evaluation.baselines when the version is published, read by replica.version_sources when a
replica loads it. It holds counts by bins and no row of the data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from serve.drift.bins import count, edges_of
from serve.drift.statistics import Kind, statistics
from serve.errors import RepositoryError
from serve.repository.layout import BASELINE
from serve.types import Array, Signature, TensorSpec

Finite = Annotated[float, Field(allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Histogram:
    """The distribution of a statistic: ascending `edges`, and the values counted by bin.

    `counts` has `len(edges) + 1` bins, and then one for NaN and inf.
    """

    edges: tuple[Finite, ...]
    counts: tuple[Natural, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 2:
            raise ValueError(f"{len(self.edges)} edges do not make {len(self.counts)} counts")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("the edges do not ascend")


@dataclass(frozen=True, slots=True)
class TensorBaseline:
    """The kind of data in a tensor, and the histogram of each statistic that the kind has."""

    kind: Kind
    statistics: Mapping[str, Histogram]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The baselines of a signature's inputs and outputs, by tensor name, made of `rows` rows.

    `reconstruction_error` names the output that holds an autoencoder's error, if one does.
    """

    signature: str
    rows: int
    inputs: Mapping[str, TensorBaseline]
    outputs: Mapping[str, TensorBaseline]
    reconstruction_error: str | None = None
    format: Literal[1] = 1

    def to_json(self) -> bytes:
        return _ADAPTER.dump_json(self, indent=1) + b"\n"


_ADAPTER = TypeAdapter(Baseline)


def describe(kind: Kind, array: Array) -> TensorBaseline:
    """Return the baseline of a tensor [rows, ...]: a histogram of each statistic of its kind."""
    histograms = {}
    for name, values in statistics(kind, array).items():
        edges = edges_of(values)
        histograms[name] = Histogram(tuple(edges.tolist()), tuple(count(values, edges).tolist()))
    return TensorBaseline(kind, histograms)


def parse_baseline(data: bytes, signatures: Mapping[str, Signature]) -> Baseline:
    """Return the baseline in a file of a model with `signatures`. Raises RepositoryError."""
    try:
        baseline = _ADAPTER.validate_json(data)
    except ValidationError as err:
        raise RepositoryError(f"{BASELINE} is broken: {_first_problem(err)}") from err
    signature = signatures.get(baseline.signature)
    if signature is None:
        raise RepositoryError(
            f"{BASELINE} is of signature '{baseline.signature}', which the model does not have"
        )
    if not signature.batched:
        raise RepositoryError(f"{BASELINE} tells of rows, and the model has no batch dimension")
    _require(baseline.inputs, signature.inputs, "input")
    _require(baseline.outputs, signature.outputs, "output")
    error = baseline.reconstruction_error
    if error is not None:
        _require([error], tuple(s for s in signature.outputs if is_error(s)), "error")
    return baseline


def is_error(spec: TensorSpec) -> bool:
    """Tell whether an output can be a reconstruction error: it has one number a row."""
    return spec.datatype != "BYTES" and spec.shape in {(-1,), (-1, 1)}


def _first_problem(err: ValidationError) -> str:
    first: Any = err.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"


def _require(names: Any, specs: tuple[TensorSpec, ...], what: str) -> None:
    known = {spec.name for spec in specs}
    for name in names:
        if name not in known:
            raise RepositoryError(f"{BASELINE} has the {what} '{name}', which the model has not")
