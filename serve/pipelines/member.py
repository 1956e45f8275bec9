"""A member of a pipeline: something with one signature that computes rows.

Used by the kinds; a member is a colocated engine here, and a model's own replicas in remote.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from serve.batching.deadline import left_s
from serve.batching.merging import chunks, has_rows, join, merge, padded_size, rows_of
from serve.engines.engine import Engine
from serve.errors import DeadlineExceeded, RepositoryError
from serve.pipelines.rows import require_rows
from serve.types import Signature, Tensors


class Member(Protocol):
    """What a pipeline needs of the models in it; `label` is the pipeline's name for it."""

    label: str
    signature: Signature
    may_block_loop: bool

    def compute(self, inputs: Tensors) -> Tensors:
        """Return the outputs for any number of rows, without padding."""

    def warmup(self) -> None:
        """Make ready for the first request."""

    def close(self) -> None:
        """Let go of what the member holds; nothing is computed after that."""

    @property
    def retraces(self) -> int:
        """Traces of the member's functions since warm-up."""


class ColocatedMember:
    """An engine in the pipeline's own process; rows are padded to the sizes it is warm at."""

    def __init__(self, label: str, engine: Engine, sizes: Sequence[int]) -> None:
        self.label = label
        self.signature = engine.signatures[engine.default_signature]
        self.may_block_loop = engine.may_block_loop
        self._engine = engine
        self._sizes = sizes

    def compute(self, inputs: Tensors) -> Tensors:
        if not (self.signature.batched and has_rows(inputs)):
            return self._engine.infer(self.signature.name, inputs)
        return join([self._compute_piece(piece) for piece in chunks(inputs, self._sizes[-1])])

    def _compute_piece(self, piece: Tensors) -> Tensors:
        if left_s(math.inf) <= 0:
            raise DeadlineExceeded(f"no time is left to compute '{self.label}'")
        rows = rows_of(piece)
        padded = merge([piece], padded_size(rows, self._sizes)) if rows else piece
        outputs = self._engine.infer(self.signature.name, padded)
        require_rows(self.label, outputs, rows_of(padded))
        return {name: array[:rows] for name, array in outputs.items()}

    def warmup(self) -> None:
        """Warm the engine up. Raises RepositoryError if that shows its rows to see each other."""
        self._engine.warmup(self._sizes)
        now = self._engine.signatures[self.signature.name]
        if self.signature.batched and not now.batched:
            raise RepositoryError(
                f"member '{self.label}' was taken for one whose rows are independent, and is none: "
                f"{now.batched_reason}; publish its model anew, or say "
                "batching: {rows: together} at the pipeline if it is a sequence or an ensemble"
            )

    def close(self) -> None:
        self._engine.close()

    @property
    def retraces(self) -> int:
        return self._engine.retraces
