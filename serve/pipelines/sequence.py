"""Sequence: members one after the other, wired by name; the last one's outputs count."""

from serve.pipelines.pipeline_engine import Kind
from serve.pipelines.wiring import (
    REQUEST,
    Parts,
    connect,
    request_inputs,
    require_new,
    sources_of,
    values_of,
)
from serve.types import Signature, Tensors


class SequenceKind(Kind):
    """Runs its members in order, each on what its wires lead to."""

    def __init__(self, parts: Parts) -> None:
        self._layers = parts.layers
        inputs = request_inputs(parts)
        sources = sources_of(REQUEST, inputs)
        self._steps = []
        nearest = REQUEST
        for index, (member, wires) in enumerate(zip(parts.members, parts.wires, strict=True)):
            place = f"{parts.where}.steps[{index}]"
            self._steps.append(connect(place, member, wires, sources, nearest))
            own = sources_of(member.label, member.signature.outputs)
            require_new(place, own, sources)
            sources |= own
            nearest = member.label
        outputs = parts.members[-1].signature.outputs
        batched = all(member.signature.batched for member in parts.members)
        self.signature = Signature("serving_default", inputs, outputs, batched)

    def compute(self, inputs: Tensors) -> Tensors:
        """Return the last member's outputs."""
        values = values_of(REQUEST, inputs)
        outputs: Tensors = {}
        for step in self._steps:
            with self._layers.time(step.label):
                outputs = step.compute(values)
            values |= values_of(step.label, outputs)
        return outputs
