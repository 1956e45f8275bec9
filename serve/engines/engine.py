"""What every engine can do; the rest of Strata knows engines by this alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from serve.types import Signature, Tensors


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the replica may take: threads for computing, and its share of one GPU.

    `gpu_share` None means no GPU or whole ones; a number below 1 caps the memory to that
    share of the card.
    """

    num_threads: int = 1
    gpu_share: float | None = None


class Engine(Protocol):
    """A loaded model version."""

    platform: str
    signatures: Mapping[str, Signature]
    default_signature: str

    @property
    def may_block_loop(self) -> bool:
        """Tell whether a short call may run on the replica's event loop."""

    def infer(self, signature: str, inputs: Tensors) -> Tensors:
        """Compute checked inputs; outputs come in the signature's order.

        Raises InferenceFailed with the cause chained.
        """

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run every signature at every batch size, so that no request pays for a first time."""

    @property
    def retraces(self) -> int:
        """Traces of the model's functions since warm-up."""
