"""Splitter: rows go to one of several members by weight, the same way for the same key."""

import zlib
from collections.abc import Sequence

import numpy as np

from serve.errors import ConfigError
from serve.pipelines.layer_metrics import Observer
from serve.pipelines.member import Member
from serve.pipelines.rows import choose, fill_missing, put
from serve.pipelines.shared import request_of, require_batched, same_outputs
from serve.pipelines.wiring import REQUEST, take, values_of
from serve.types import Array, Signature, Tensors, TensorSpec

_BUCKETS = 2**32


class SplitterKind:
    """Sends each row to a member; which one is in the output `member`."""

    def __init__(
        self,
        where: str,
        members: Sequence[Member],
        wires: Sequence[dict[str, str]],
        weights: Sequence[float],
        key: str | None,
        observe: Observer,
    ) -> None:
        require_batched(f"{where}.members", members)
        self._observe = observe
        inputs, connected = request_of(f"{where}.members", members, wires)
        self._members = list(zip(members, connected, strict=True))
        self._bounds = np.cumsum(weights)[:-1]
        self._key = key
        outputs = (
            *same_outputs(f"{where}.members", members),
            TensorSpec("member", "BYTES", (-1,)),
        )
        self.signature = Signature("serving_default", self._with_key(where, inputs), outputs, True)

    def compute(self, inputs: Tensors) -> Tensors:
        """Answer each row by its member."""
        rows_total = len(next(iter(inputs.values())))
        ways = np.searchsorted(self._bounds, self._draw(inputs, rows_total), side="right")
        values = values_of(REQUEST, inputs)
        answers: Tensors = {"member": np.full(rows_total, b"", object)}
        for index in np.unique(ways):
            member, connected = self._members[index]
            rows = np.flatnonzero(ways == index)
            with self._observe.layer(member.label):
                part = member.compute(choose(take(connected, values), rows))
            put(answers, rows, part, rows_total)
            answers["member"][rows] = member.label.encode()
            self._observe.count(member.label, "answered", len(rows))
        fill_missing(answers, self.signature.outputs, rows_total)
        return answers

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
                if spec.shape != (-1,) or spec.datatype.startswith("FP"):
                    raise ConfigError(f"{where}.key: '{self._key}' must be one value a row")
                return inputs
        return (*inputs, TensorSpec(self._key, "BYTES", (-1,)))


def _place(value: object) -> float:
    """Return where a key falls in 0..1, the same in every process."""
    text = value if isinstance(value, bytes) else str(value).encode()
    return zlib.crc32(text) / _BUCKETS
