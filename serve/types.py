"""The values that travel through a replica: what a model takes, a request, a response.

Plain dataclasses of numpy arrays; the protocols build and read them, the batcher merges
them, the engines compute on them. BYTES tensors are object arrays whose elements are bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

MAX_VERSION = 2**63 - 1  # TensorFlow Serving's versions are 64-bit integers

# Whose a request is where it does not say.
NO_TENANT = "none"

# Whose turn it is where not all can be computed at once: `interactive` requests go first, `batch`
# ones take the places that those leave in a batch.
Priority = Literal["interactive", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, protocol datatype and shape of an input or output.

    `shape` holds -1 for an unknown size and is None where even the rank is unknown.
    """

    name: str
    datatype: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class RowsVerdict:
    """Whether a signature computes each row by itself, and in words why that is believed."""

    independent: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Signature:
    """One callable of a model: what goes in and what comes out, in the model's own order.

    `batched` says that dimension 0 of every input and output is one of rows that do not see each
    other, so requests may be stacked along it, padded and cut; `batched_reason` says for people
    why, or why not. A signature that is not batched is served whole, one request a call.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool
    batched_reason: str = ""


@dataclass(slots=True)
class InferRequest:
    """A decoded request: `inputs` by name, and how they are to be computed.

    `signature` None means the model's default; `outputs` None means all of them; `timeout_s` counts
    from arrival; `tenant` is whose request it is, for metrics, `priority` how urgent it is. A
    pipeline that calls a model's own replicas also says which `version` (None: the newest), where
    it is traced its `trace`, and with `has_strangers` that it takes rows to be independent: they
    may be of several clients. The version of an HTTP request is chosen by its path, before its body
    is decoded.
    """

    inputs: Tensors
    signature: str | None = None
    outputs: tuple[str, ...] | None = None
    id: str | None = None
    version: int | None = None
    timeout_s: float | None = None
    tenant: str = NO_TENANT
    priority: Priority = "interactive"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    trace: Mapping[str, str] | None = None
    has_strangers: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a pipeline's member: its label, how long, when (perf_counter).

    `span_id` is what the member was told that this call is, None where it was not traced.
    """

    label: str
    seconds: float
    started: float = 0.0
    span_id: int | None = None


@dataclass(slots=True)
class Timing:
    """Where a request's time went, in seconds.

    `queue_s` waiting for the engine to be free, `batch_wait_s` waiting for others to share
    a batch, `engine_s` in the model. `arrived` is when it began to wait (time.perf_counter), and
    these three are all that follows until it is computed. `rows` are its own, `batch_rows` those of
    the batch it rode in, without padding; `layers` are the calls of a pipeline's members; `pieces`
    are the parts of a request that was larger than a batch.
    """

    queue_s: float = 0.0
    batch_wait_s: float = 0.0
    engine_s: float = 0.0
    arrived: float = 0.0
    rows: int = 0
    batch_rows: int = 0
    layers: tuple[Layer, ...] = ()
    pieces: tuple["Timing", ...] = ()


@dataclass(slots=True)
class InferResponse:
    """The result: `outputs` by name in the signature's order, only those that were asked for."""

    model: str
    version: int
    outputs: Tensors
    id: str | None = None
    signature: str | None = None
    timing: Timing = field(default_factory=Timing)
