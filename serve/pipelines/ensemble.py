"""Ensemble: members side by side on the same request, combined by mean or vote, or collected."""

from collections.abc import Sequence

import numpy as np

from serve.errors import ConfigError
from serve.pipelines.member import Member
from serve.pipelines.pipeline_engine import Kind
from serve.pipelines.wiring import REQUEST, Parts, same_outputs, values_of, wire_to_request
from serve.types import Signature, Tensors, TensorSpec


class EnsembleKind(Kind):
    """Runs every member and combines their outputs: `mean`, `vote` or `collect`."""

    def __init__(self, parts: Parts, *, combine: str) -> None:
        self._combine = combine
        self._layers = parts.layers
        inputs, self._members = wire_to_request(parts, "members")
        outputs = _outputs(parts.where, parts.members, combine)
        batched = all(member.signature.batched for member in parts.members)
        self.signature = Signature("serving_default", inputs, outputs, batched)

    def compute(self, inputs: Tensors) -> Tensors:
        """Return the combined outputs."""
        values = values_of(REQUEST, inputs)
        by_member: list[tuple[str, Tensors]] = []
        for member in self._members:
            with self._layers.time(member.label):
                by_member.append((member.label, member.compute(values)))
        if self._combine == "collect":
            return {f"{label}.{n}": a for label, outputs in by_member for n, a in outputs.items()}
        return _combined(self._combine, [outputs for _, outputs in by_member])


def _combined(combine: str, outputs: list[Tensors]) -> Tensors:
    first = outputs[0]
    means = {name: np.mean([each[name] for each in outputs], axis=0) for name in first}
    if combine == "mean":
        return {name: mean.astype(first[name].dtype) for name, mean in means.items()}
    (name,) = first
    votes = np.stack([each[name].argmax(axis=1) for each in outputs])
    classes = first[name].shape[1]
    counts = np.stack([(votes == index).sum(axis=0) for index in range(classes)], axis=1)
    # Between equal votes the mean decides, which is below 1 and so never outweighs a vote.
    winners = (counts + means[name] / 2).argmax(axis=1)
    share = counts[np.arange(len(winners)), winners] / len(outputs)
    return {"class": winners.astype(np.int64), "share": share.astype(np.float32)}


def _outputs(where: str, members: Sequence[Member], combine: str) -> tuple[TensorSpec, ...]:
    if combine == "collect":
        return tuple(
            TensorSpec(f"{member.label}.{spec.name}", spec.datatype, spec.shape)
            for member in members
            for spec in member.signature.outputs
        )
    outputs = same_outputs(f"{where}.members", members)
    for spec in outputs:
        if spec.datatype not in {"FP16", "FP32", "FP64"}:
            raise ConfigError(
                f"{where}.combine: {combine} needs numbers, output '{spec.name}' is {spec.datatype}"
            )
    if combine == "mean":
        return outputs
    if len(outputs) != 1 or outputs[0].shape is None or len(outputs[0].shape) != 2:
        raise ConfigError(f"{where}.combine: vote needs one output [-1, classes] of every member")
    return (TensorSpec("class", "INT64", (-1,)), TensorSpec("share", "FP32", (-1,)))
