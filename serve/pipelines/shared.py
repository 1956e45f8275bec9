"""What kinds with members side by side share: one request for all, and outputs that agree."""

from collections.abc import Sequence

from serve.errors import ConfigError
from serve.pipelines.member import Member
from serve.pipelines.wiring import REQUEST, connect, sources_of
from serve.protocols.check import describe
from serve.types import TensorSpec


def request_of(
    where: str, members: Sequence[Member], wires: Sequence[dict[str, str]]
) -> tuple[tuple[TensorSpec, ...], list[dict[str, str]]]:
    """Return the request's inputs and each member's wires to it.

    The first member's inputs, and what others are wired to by names that it lacks.
    """
    specs = {spec.name: spec for spec in members[0].signature.inputs}
    for name, wire in wires[0].items():
        if name in specs:
            target = wire.removeprefix(f"{REQUEST}.")
            specs[name] = TensorSpec(target, specs[name].datatype, specs[name].shape)
    inputs = {spec.name: spec for spec in specs.values()}
    for member, own in zip(members[1:], wires[1:], strict=True):
        for spec in member.signature.inputs:
            owner, _, name = own.get(spec.name, "").partition(".")
            if owner == REQUEST and name not in inputs:
                inputs[name] = TensorSpec(name, spec.datatype, spec.shape)
    sources = sources_of(REQUEST, tuple(inputs.values()))
    connected = [
        connect(f"{where}[{index}]", member.signature, own, sources, REQUEST)
        for index, (member, own) in enumerate(zip(members, wires, strict=True))
    ]
    return tuple(inputs.values()), connected


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
            raise ConfigError(f"{where}: '{member.label}' has no batch dimension to take rows by")
