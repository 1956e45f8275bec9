"""Switch: a member chooses, row by row, which other member answers."""

from collections.abc import Mapping, Sequence

import numpy as np

from serve.errors import ConfigError, InvalidRequest
from serve.pipelines.layer_metrics import Observer
from serve.pipelines.member import Member
from serve.pipelines.rows import choose, fill_missing, put
from serve.pipelines.shared import request_of, require_batched, same_outputs
from serve.pipelines.wiring import REQUEST, take, values_of
from serve.types import Array, Signature, Tensors


class SwitchKind:
    """`branches` maps the text of a value to the index of its member; `default` is one too."""

    def __init__(
        self,
        where: str,
        members: Sequence[Member],
        wires: Sequence[dict[str, str]],
        tensor: str | None,
        branches: Mapping[str, int],
        observe: Observer,
    ) -> None:
        require_batched(where, members)
        self._observe = observe
        inputs, connected = request_of(f"{where}.members", members, wires)
        self._members = list(zip(members, connected, strict=True))
        self._tensor = _choosing_tensor(where, members[0], tensor)
        self._branches = {value: index for value, index in branches.items() if value != DEFAULT}
        self._default = branches.get(DEFAULT)
        outputs = same_outputs(where, members[1:])
        self.signature = Signature("serving_default", inputs, outputs, True)

    def compute(self, inputs: Tensors) -> Tensors:
        """Answer each row by its branch. Raises InvalidRequest for a value without one."""
        values = values_of(REQUEST, inputs)
        chooser, connected = self._members[0]
        with self._observe.layer(chooser.label):
            chosen = chooser.compute(take(connected, values))[self._tensor]
        branches = np.array([self._branch_of(value) for value in _texts(chosen)], np.intp)
        answers: Tensors = {}
        for index in np.unique(branches):
            member, connected = self._members[index]
            rows = np.flatnonzero(branches == index)
            with self._observe.layer(member.label):
                part = member.compute(choose(take(connected, values), rows))
            put(answers, rows, part, len(branches))
            self._observe.count(member.label, "answered", len(rows))
        fill_missing(answers, self.signature.outputs, len(branches))
        return answers

    def _branch_of(self, value: str) -> int:
        index = self._branches.get(value, self._default)
        if index is None:
            known = ", ".join(self._branches)
            raise InvalidRequest(
                f"the switch has no branch for {self._tensor} = '{value}' and no default "
                f"(branches: {known})"
            )
        return index


DEFAULT = "default"


def _choosing_tensor(where: str, member: Member, tensor: str | None) -> str:
    outputs = {spec.name: spec for spec in member.signature.outputs}
    if tensor is None and len(outputs) == 1:
        return next(iter(outputs))
    if tensor not in outputs:
        raise ConfigError(
            f"{where}.tensor: '{member.label}' has no output '{tensor}' (it has: "
            f"{', '.join(outputs)})"
        )
    return tensor


def _texts(chosen: Array) -> list[str]:
    """Return each row's value as the text that branches are named by."""
    if chosen.dtype.kind == "f":
        chosen = chosen.reshape(len(chosen), -1).argmax(axis=1)
    values = chosen.reshape(len(chosen), -1)[:, 0].tolist()
    return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]
