"""Splitter: rows go to one of several members by weight, the same way for the same key."""

import zlib
from collections.abc import Sequence

import numpy as np

from serve.datatypes import DATATYPES, is_float
from serve.errors import ConfigError
from serve.pipelines.pipeline_engine import Kind
from serve.pipelines.rows import fill_missing
from serve.pipelines.wiring import (
    REQUEST,
    Parts,
    compute_by_way,
    require_batched,
    require_own,
    same_outputs,
    values_of,
    wire_to_request,
)
from serve.types import Array, Signature, Tensors, TensorSpec

_BUCKETS = 2**32
_MARK = TensorSpec("member", "BYTES", (-1,))


class SplitterKind(Kind):
    """Sends each row to a member by weight; which one is in the output `member`.

    `weights` are those of the members in their order and sum to 1; rows with the same value of the
    input `key` go the same way.
    """

    parts_rows = True

    def __init__(self, parts: Parts, *, weights: Sequence[float], key: str | None) -> None:
        require_batched(f"{parts.where}.members", parts.members)
        self._layers = parts.layers
        inputs, self._members = wire_to_request(parts, "members")
        self._bounds = np.cumsum(weights)[:-1]
        self._key = key
        own = same_outputs(f"{parts.where}.members", parts.members)
        require_own(f"{parts.where}.members", own, (_MARK,))
        outputs = (*own, _MARK)
        with_key = self._with_key(parts.where, inputs)
        self.signature = Signature("serving_default", with_key, outputs, True)

    def compute(self, inputs: Tensors) -> Tensors:
        """Return each row's outputs, computed by its member."""
        total = len(next(iter(inputs.values())))
        ways = np.searchsorted(self._bounds, self._draw(inputs, total), side="right")
        outputs = compute_by_way(self._members, ways, values_of(REQUEST, inputs), self._layers)
        labels = np.array([member.label.encode() for member in self._members], object)
        outputs["member"] = labels[ways]
        fill_missing(outputs, self.signature.outputs, total)
        return outputs

    def _draw(self, inputs: Tensors, rows: int) -> Array:
        """Return a number in 0..1 for each row: of its key if there is one, else by chance."""
        if self._key is None:
            return np.random.default_rng().random(rows)
        return np.array([_place(value) for value in inputs[self._key].ravel().tolist()])

    def _with_key(self, where: str, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        if self._key is None:
            return inputs
        for spec in inputs:
            if spec.name == self._key:
                if spec.shape != (-1,) or is_float(DATATYPES[spec.datatype].numpy):
                    raise ConfigError(f"{where}.key: '{self._key}' must be one value a row")
                return inputs
        return (*inputs, TensorSpec(self._key, "BYTES", (-1,)))


def _place(value: object) -> float:
    """Return where a key falls in 0..1, the same in every process."""
    text = value if isinstance(value, bytes) else str(value).encode()
    return zlib.crc32(text) / _BUCKETS
