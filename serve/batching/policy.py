"""What bounds a batcher: batch sizes, the queue, and what its engine is like."""

from collections.abc import Sequence
from dataclasses import dataclass

from serve.batching.execution import Layers
from serve.config.sections import Batching


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """The limits of one batcher, and what its engine is like.

    `layers` returns the layers of the engine's latest call. `pads` False is for an engine that
    takes any number of rows and pads by itself.
    """

    batching: Batching
    max_queued_requests: int
    layers: Layers = tuple
    may_block_loop: bool = True
    pads: bool = True

    @property
    def sizes(self) -> Sequence[int]:
        """The batch sizes that the engine is given, ascending."""
        return self.batching.sizes if self.pads else range(1, self.batching.max_batch_size + 1)
