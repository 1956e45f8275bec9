"""What every engine can do; the rest of Strata knows engines by this alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serve.types import Layer, Signature, Tensors

RowsSetting = Literal["auto", "independent", "together"]

# The libraries that compute; a pipeline is computed by its members.
Library = Literal["tensorflow", "openvino", "onnxruntime"]
EngineName = Literal["tensorflow", "openvino", "onnxruntime", "pipeline"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the replica may take, and what a model may bring.

    `num_threads` compute. `num_gpus` 0 means that no GPU is seen, a number below 1 caps the memory
    to that share of one. `imports` are modules to import before a model is loaded, for their ops
    and layers; `allowed_code` the hashes (`sha256:...`) of files that may run code of their own.
    `signature` is the default one, None for the model's own; `rows` is whether its rows are
    independent of each other, found out where it says auto. `library` is what computes it; auto is
    the best of those that were tried. `sizes` are the batches that it is going to be asked for.
    """

    num_threads: int = 1
    num_gpus: float = 0.0
    imports: tuple[str, ...] = ()
    allowed_code: tuple[str, ...] = ()
    signature: str | None = None
    rows: RowsSetting = "auto"
    library: Library | Literal["auto"] = "auto"
    sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class Complexity:
    """Parameters, and floating-point operations of one row (a multiplication and its addition
    count as two); None where a loop or an unknown shape hides them.
    """

    parameters: int | None
    flops: int | None


class LayerMetrics(Protocol):
    """What the layers of an engine did, for Server-Timing and the metrics."""

    def latest(self) -> tuple[Layer, ...]:
        """Return the layers of the latest call, in the order they ran."""

    def take_rows(self) -> Mapping[tuple[str, str], int]:
        """Return rows by layer and outcome, of all calls since this was last asked."""

    def compute_saved(self) -> float | None:
        """Return the part of the computation that early exits saved; None if unknown."""


class NoLayers:
    """The layer metrics of an engine that is one model: none."""

    def latest(self) -> tuple[Layer, ...]:
        return ()

    def take_rows(self) -> Mapping[tuple[str, str], int]:
        return {}

    def compute_saved(self) -> float | None:
        return None


class Engine(Protocol):
    """A loaded model version, or a pipeline of such.

    `name` is the library that computes, `reason` says for people why it is that one. `pads_itself`
    says that any number of rows is as good as another: the engine pads where that helps.
    """

    name: EngineName
    reason: str
    platform: str
    signatures: Mapping[str, Signature]
    default_signature: str
    pads_itself: bool

    @property
    def layers(self) -> LayerMetrics:
        """What the engine's layers did."""

    @property
    def may_block_loop(self) -> bool:
        """Tell whether a short call may run on the replica's event loop."""

    def infer(self, signature: str, inputs: Tensors) -> Tensors:
        """Compute checked inputs; outputs come in the signature's order.

        Raises InferenceFailed with the cause chained.
        """

    def warmup(self, batch_sizes: Sequence[int]) -> None:
        """Run every signature at every batch size, so that no request pays for a first time.

        Raises RepositoryError where the default signature does not compute.
        """

    @property
    def retraces(self) -> int:
        """Traces of the model's functions since warm-up."""

    def close(self) -> None:
        """Let go of what the engine holds; nothing is computed after that."""
