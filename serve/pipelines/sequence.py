"""Sequence: members one after the other, wired by name."""

from collections.abc import Sequence as SequenceOf

from serve.pipelines.layer_metrics import Observer
from serve.pipelines.member import Member
from serve.pipelines.wiring import REQUEST, connect, sources_of, take, values_of
from serve.types import Signature, Tensors

Wires = dict[str, str]


class SequenceKind:
    """Runs its members in order, each on what its wires lead to."""

    def __init__(
        self, where: str, members: SequenceOf[Member], wires: SequenceOf[Wires], observe: Observer
    ) -> None:
        self._observe = observe
        request = _request_inputs(members, wires)
        sources = sources_of(REQUEST, request.inputs)
        self._steps = []
        nearest = REQUEST
        for index, (member, own) in enumerate(zip(members, wires, strict=True)):
            place = f"{where}.steps[{index}]"
            connected = connect(place, member.signature, own, sources, nearest)
            self._steps.append((member, connected))
            sources |= sources_of(member.label, member.signature.outputs)
            nearest = member.label
        last = members[-1].signature
        batched = all(member.signature.batched for member in members)
        self.signature = Signature(request.name, request.inputs, last.outputs, batched)

    def compute(self, inputs: Tensors) -> Tensors:
        values = values_of(REQUEST, inputs)
        outputs: Tensors = {}
        for member, connected in self._steps:
            with self._observe.layer(member.label):
                outputs = member.compute(take(connected, values))
            values |= values_of(member.label, outputs)
        return outputs


def _request_inputs(members: SequenceOf[Member], wires: SequenceOf[Wires]) -> Signature:
    """Return what a request holds: the first member's inputs and what others are wired to."""
    first = members[0].signature
    specs = {spec.name: spec for spec in first.inputs}
    for member, own in zip(members[1:], wires[1:], strict=True):
        for spec in member.signature.inputs:
            owner, _, name = own.get(spec.name, "").partition(".")
            if owner == REQUEST and name not in specs:
                specs[name] = type(spec)(name, spec.datatype, spec.shape)
    return Signature("serving_default", tuple(specs.values()), (), first.batched)
