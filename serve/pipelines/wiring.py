"""Wires: which tensor goes into which input of which member, and whether it fits there.

Done while a pipeline is built, so that a wire that does not fit is refused before it serves. A
tensor is named by its owner: `request.image`, `encoder.latent`.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serve.batching.merging import rows_of
from serve.errors import ConfigError, InferenceFailed
from serve.pipelines.layer_metrics import LayerRecorder
from serve.pipelines.member import Member
from serve.pipelines.rows import Rows, choose, put, require_rows
from serve.protocols.signature_check import describe
from serve.types import Array, Tensors, TensorSpec

REQUEST = "request"

# Tensors and their values by full name: "request.image", "encoder.latent".
Sources = dict[str, TensorSpec]
Values = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Parts:
    """What every kind is built from.

    `where` is the pipeline's place in the file, for errors; `wires` are those that the file gives,
    one mapping a member.
    """

    where: str
    members: Sequence[Member]
    wires: Sequence[Mapping[str, str]]
    layers: LayerRecorder


@dataclass(frozen=True, slots=True)
class WiredMember:
    """A member, and for each of its inputs the full name of the tensor that goes into it."""

    member: Member
    sources: Mapping[str, str]

    @property
    def label(self) -> str:
        return self.member.label

    def inputs(self, values: Values) -> Tensors:
        """Return the member's inputs out of computed values."""
        return {name: values[source] for name, source in self.sources.items()}

    def compute(self, values: Values, rows: Rows | None = None) -> Tensors:
        """Return the member's outputs for computed values, of some of their rows if given.

        Raises InferenceFailed if a member that takes rows answers others than it was given, and for
        some of the rows of one that takes none any more.
        """
        if rows is not None and not self.member.signature.batched:
            raise InferenceFailed(
                f"'{self.label}' computes all rows of a request together by now, and here each row "
                f"goes its own way: {self.member.signature.batched_reason}"
            )
        inputs = self.inputs(values)
        chosen = inputs if rows is None else choose(inputs, rows)
        outputs = self.member.compute(chosen)
        if self.member.signature.batched:
            require_rows(self.label, outputs, rows_of(chosen))
        return outputs


def compute_by_way(
    members: Sequence[WiredMember], ways: Rows, values: Values, layers: LayerRecorder
) -> Tensors:
    """Return each row's outputs, computed by the member whose place `ways` has for the row."""
    outputs: Tensors = {}
    for index in np.unique(ways):
        member = members[index]
        rows = np.flatnonzero(ways == index)
        with layers.time(member.label):
            part = member.compute(values, rows)
        put(outputs, rows, part, len(ways))
        layers.count(member.label, "answered", len(rows))
    return outputs


def sources_of(owner: str, specs: Sequence[TensorSpec]) -> Sources:
    """Return the tensors that an owner provides, under their full names."""
    return {f"{owner}.{spec.name}": spec for spec in specs}


def require_new(where: str, names: Iterable[str], known: Container[str]) -> None:
    """Raise ConfigError for a full name that is known already, since names may have dots."""
    for name in names:
        if name in known:
            raise ConfigError(f"{where}: there is a tensor '{name}' already; rename the member")


def values_of(owner: str, tensors: Tensors) -> Values:
    """Return computed tensors under their full names."""
    return {f"{owner}.{name}": array for name, array in tensors.items()}


def request_inputs(parts: Parts) -> tuple[TensorSpec, ...]:
    """Return what a request has to bring.

    These are the first member's inputs, by the names that its own wires give them, and what the
    others are wired to by names that the first one does not have.
    """
    first = [_renamed(spec, parts.wires[0]) for spec in parts.members[0].signature.inputs]
    inputs = {spec.name: spec for spec in first}
    for member, wires in zip(parts.members[1:], parts.wires[1:], strict=True):
        for spec in member.signature.inputs:
            owner, _, name = wires.get(spec.name, "").partition(".")
            if owner == REQUEST and name not in inputs:
                inputs[name] = TensorSpec(name, spec.datatype, spec.shape)
    return tuple(inputs.values())


def _renamed(spec: TensorSpec, wires: Mapping[str, str]) -> TensorSpec:
    name = wires.get(spec.name, spec.name).removeprefix(f"{REQUEST}.")
    return TensorSpec(name, spec.datatype, spec.shape)


def wire_to_request(
    parts: Parts, member_key: str
) -> tuple[tuple[TensorSpec, ...], list[WiredMember]]:
    """Return the request's inputs and the members, each wired to the request alone.

    `member_key` is the key that holds the members in the file. Raises ConfigError.
    """
    inputs = request_inputs(parts)
    sources = sources_of(REQUEST, inputs)
    wired = [
        connect(f"{parts.where}.{member_key}[{index}]", member, wires, sources, REQUEST)
        for index, (member, wires) in enumerate(zip(parts.members, parts.wires, strict=True))
    ]
    return inputs, wired


def connect(
    where: str, member: Member, wires: Mapping[str, str], sources: Sources, nearest: str
) -> WiredMember:
    """Return a member with the source of each of its inputs. Raises ConfigError naming both ends.

    An input without a wire takes the tensor of its name from `nearest` (the member before, or
    the request), or `nearest`'s only tensor if the member has only one input.
    """
    inputs = member.signature.inputs
    for name in wires:
        if name not in {spec.name for spec in inputs}:
            known = ", ".join(spec.name for spec in inputs)
            raise ConfigError(
                f"{where}.inputs.{name}: the model has no such input (it has: {known})"
            )
    connected = {}
    for spec in inputs:
        source = wires.get(spec.name) or _by_name(spec, len(inputs), sources, nearest)
        if source not in sources:
            known = ", ".join(sources)
            raise ConfigError(
                f"{where}.inputs.{spec.name}: there is no tensor '{source}' (there are: {known})"
            )
        _check_fit(where, spec, source, sources[source])
        connected[spec.name] = source
    return WiredMember(member, connected)


def _by_name(spec: TensorSpec, input_count: int, sources: Sources, nearest: str) -> str:
    named = f"{nearest}.{spec.name}"
    near = [source for source in sources if source.rpartition(".")[0] == nearest]
    if named not in sources and input_count == 1 and len(near) == 1:
        return near[0]
    return named


def _check_fit(where: str, spec: TensorSpec, source: str, offered: TensorSpec) -> None:
    if offered.datatype == spec.datatype and _shapes_fit(offered.shape, spec.shape):
        return
    raise ConfigError(
        f"{where}.inputs.{spec.name}: {source} is {describe(offered)}, "
        f"which does not fit {describe(spec)}"
    )


def _shapes_fit(offered: tuple[int, ...] | None, wanted: tuple[int, ...] | None) -> bool:
    if offered is None or wanted is None:
        return True
    return len(offered) == len(wanted) and all(
        a == b or -1 in (a, b) for a, b in zip(offered, wanted, strict=True)
    )


def require_own(where: str, outputs: Sequence[TensorSpec], marks: Sequence[TensorSpec]) -> None:
    """Raise ConfigError if the members have an output of a name that the pipeline adds itself."""
    for name in {spec.name for spec in outputs} & {spec.name for spec in marks}:
        raise ConfigError(
            f"{where}: the pipeline adds an output '{name}' of its own, and the members have "
            "one of this name; rename theirs"
        )


def same_outputs(where: str, members: Sequence[Member]) -> tuple[TensorSpec, ...]:
    """Return the outputs that all members have alike. Raises ConfigError naming who differs."""
    first = members[0]
    for index, member in enumerate(members[1:], 1):
        if member.signature.outputs != first.signature.outputs:
            one = ", ".join(map(describe, first.signature.outputs))
            other = ", ".join(map(describe, member.signature.outputs))
            raise ConfigError(
                f"{where}[{index}]: '{member.label}' answers {other}, "
                f"'{first.label}' answers {one}; they must be alike"
            )
    return first.signature.outputs


def require_batched(where: str, members: Sequence[Member]) -> None:
    """Raise ConfigError unless every member takes rows: rows go different ways here."""
    for member in members:
        if not member.signature.batched:
            raise ConfigError(
                f"{where}: '{member.label}' has no batch dimension of rows that do not depend on "
                "each other, and here each row goes its own way; put it into a sequence or an "
                "ensemble, or export it so that a row in is a row out"
            )
