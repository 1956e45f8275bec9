"""A pipeline as an engine: what the batcher, the protocols and the metrics see of it.

Built by build from the config; being an engine, it is batched, warmed, versioned and served like a
model, and can itself be a member of another pipeline.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from serve.batching.merging import has_rows, rows_of
from serve.engines.engine import EngineName
from serve.errors import InvalidRequest
from serve.pipelines.layer_metrics import LayerRecorder
from serve.pipelines.member import Member
from serve.pipelines.rows import fill_missing
from serve.types import Signature, Tensors

SIGNATURE = "serving_default"


class Kind(Protocol):
    """One way to put members together; a kind says what a row goes through and who computes it.

    `parts_rows` says that each row of a request may go a way of its own.
    """

    signature: Signature
    parts_rows: ClassVar[bool] = False

    def compute(self, inputs: Tensors) -> Tensors:
        """Return the outputs for checked inputs."""

    def close(self) -> None:
        """Let go of what the kind holds besides its members: nothing, unless it says so."""
        return


class PipelineEngine:
    """Runs one kind over its members."""

    name: EngineName = "pipeline"
    reason = "its members compute"
    platform = "strata_pipeline"
    default_signature = SIGNATURE
    # Its models pad; a row copied here would go all the way that the row itself goes.
    pads_itself = True

    def __init__(self, kind: Kind, members: Sequence[Member], layers: LayerRecorder) -> None:
        self.signatures: Mapping[str, Signature] = {SIGNATURE: kind.signature}
        self.layers = layers
        self.members = members
        self.kind = kind

    def infer(self, signature: str, inputs: Tensors) -> Tensors:
        """Compute checked inputs; a mistake of a member is raised as it is.

        Raises InvalidRequest for inputs of different numbers of rows where rows part ways.
        """
        self.layers.begin()
        is_even = has_rows(inputs)
        if self.kind.parts_rows and not is_even:
            rows = ", ".join(f"'{name}' {list(array.shape)}" for name, array in inputs.items())
            raise InvalidRequest(f"the inputs must have as many rows, one for each row: {rows}")
        if self.signatures[signature].batched and is_even and rows_of(inputs) == 0:
            outputs: Tensors = {}
            fill_missing(outputs, self.kind.signature.outputs, 0)
            return outputs
        return self.kind.compute(inputs)

    @property
    def may_block_loop(self) -> bool:
        """Tell whether a call may run on the event loop, which members elsewhere need free."""
        return all(member.may_block_loop for member in self.members)

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Make every member ready; each one is warm at all sizes, since rows part ways."""
        for member in self.members:
            member.warmup()

    @property
    def retraces(self) -> int:
        """Traces of the members' functions since warm-up."""
        return sum(member.retraces for member in self.members)

    def close(self) -> None:
        """Close the kind and every member."""
        self.kind.close()
        for member in self.members:
            member.close()
