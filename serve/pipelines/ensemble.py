"""Ensemble: members side by side on the same request, combined by mean or vote, or collected."""

from collections.abc import Sequence

import numpy as np

from serve.errors import ConfigError, InferenceFailed
from serve.pipelines.member import Member
from serve.pipelines.pipeline_engine import Kind
from serve.pipelines.wiring import (
    REQUEST,
    Parts,
    require_new,
    same_outputs,
    sources_of,
    values_of,
    wire_to_request,
)
from serve.types import Array, Signature, Tensors, TensorSpec


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
        return _combined(self._combine, by_member)


def _combined(combine: str, by_member: list[tuple[str, Tensors]]) -> Tensors:
    _require_same_shapes(by_member)
    outputs = [each for _, each in by_member]
    first = outputs[0]
    if combine == "mean":
        means = {name: np.mean([each[name] for each in outputs], axis=0) for name in first}
        return {name: mean.astype(first[name].dtype) for name, mean in means.items()}
    (name,) = first
    return _vote(np.stack([each[name] for each in outputs]))


def _vote(tables: Array) -> Tensors:
    """Return the class with most votes and its share of [members, rows, classes].

    A member whose row has NaN has no vote; where none has one the class is -1 and its share 0.
    """
    votes = np.where(np.isnan(tables).any(axis=2), -1, tables.argmax(axis=2))
    classes = range(tables.shape[2])
    counts = np.stack([(votes == index).sum(axis=0) for index in classes], axis=1)
    # Between equal votes the mean of those that vote decides, among the classes with most votes.
    sums = np.where((votes >= 0)[:, :, np.newaxis], tables, 0).sum(axis=0, dtype=np.float64)
    is_first = counts == counts.max(axis=1, keepdims=True)
    winners = np.where(is_first, sums, -np.inf).argmax(axis=1)
    most = counts.max(axis=1)
    share = (most / len(tables)).astype(np.float32)
    return {"class": np.where(most > 0, winners, -1).astype(np.int64), "share": share}


def _require_same_shapes(by_member: list[tuple[str, Tensors]]) -> None:
    """Raise InferenceFailed where numpy would stretch one member's output over another's."""
    label, first = by_member[0]
    for other, outputs in by_member[1:]:
        for name, array in outputs.items():
            if array.shape != first[name].shape:
                raise InferenceFailed(
                    f"output '{name}' of '{other}' is {list(array.shape)} and of '{label}' "
                    f"{list(first[name].shape)}; they cannot be combined"
                )


def _outputs(where: str, members: Sequence[Member], combine: str) -> tuple[TensorSpec, ...]:
    if combine == "collect":
        found: dict[str, TensorSpec] = {}
        for index, member in enumerate(members):
            own = {
                name: TensorSpec(name, spec.datatype, spec.shape)
                for name, spec in sources_of(member.label, member.signature.outputs).items()
            }
            require_new(f"{where}.members[{index}]", own, found)
            found |= own
        return tuple(found.values())
    outputs = same_outputs(f"{where}.members", members)
    for spec in outputs:
        if spec.datatype not in {"FP16", "FP32", "FP64"}:
            raise ConfigError(
                f"{where}.combine: {combine} needs numbers, output '{spec.name}' is {spec.datatype}"
            )
    if combine == "mean":
        return outputs
    shape = outputs[0].shape if len(outputs) == 1 else None
    if shape is None or len(shape) != 2 or shape[1] == 1:
        raise ConfigError(
            f"{where}.combine: vote needs one output [-1, classes] of every member, of two "
            "classes or more; for one probability a row, take the mean"
        )
    return (TensorSpec("class", "INT64", (-1,)), TensorSpec("share", "FP32", (-1,)))
