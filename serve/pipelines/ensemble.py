"""Ensemble: members side by side on the same request, combined by mean or vote, or collected."""

from collections.abc import Sequence

import numpy as np

from serve.errors import ConfigError
from serve.pipelines.layer_metrics import Observer
from serve.pipelines.member import Member
from serve.pipelines.shared import request_of, same_outputs
from serve.pipelines.wiring import REQUEST, take, values_of
from serve.types import Signature, Tensors, TensorSpec


class EnsembleKind:
    """Runs every member and combines what they say."""

    def __init__(
        self,
        where: str,
        members: Sequence[Member],
        wires: Sequence[dict[str, str]],
        combine: str,
        observe: Observer,
    ) -> None:
        self._combine = combine
        self._observe = observe
        inputs, connected = request_of(f"{where}.members", members, wires)
        self._members = list(zip(members, connected, strict=True))
        outputs = _outputs(where, members, combine)
        batched = all(member.signature.batched for member in members)
        self.signature = Signature("serving_default", inputs, outputs, batched)

    def compute(self, inputs: Tensors) -> Tensors:
        values = values_of(REQUEST, inputs)
        answers: list[tuple[str, Tensors]] = []
        for member, connected in self._members:
            with self._observe.layer(member.label):
                answers.append((member.label, member.compute(take(connected, values))))
        if self._combine == "collect":
            return {f"{label}.{n}": a for label, answer in answers for n, a in answer.items()}
        return _combined(self._combine, [answer for _, answer in answers])


def _combined(combine: str, answers: list[Tensors]) -> Tensors:
    means = {name: np.mean([a[name] for a in answers], axis=0) for name in answers[0]}
    if combine == "mean":
        return {name: mean.astype(answers[0][name].dtype) for name, mean in means.items()}
    (name,) = answers[0]
    votes = np.stack([answer[name].argmax(axis=1) for answer in answers])
    classes = answers[0][name].shape[1]
    counts = np.stack([(votes == index).sum(axis=0) for index in range(classes)], axis=1)
    # Between equal votes the mean decides, which is below 1 and so never outweighs a vote.
    winners = (counts + means[name] / 2).argmax(axis=1)
    share = counts[np.arange(len(winners)), winners] / len(answers)
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
