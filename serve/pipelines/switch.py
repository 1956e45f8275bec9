"""Switch: a member chooses, row by row, which other member computes."""

from collections.abc import Mapping

import numpy as np

from serve.errors import ConfigError, InvalidRequest
from serve.pipelines.member import Member
from serve.pipelines.pipeline_engine import Kind
from serve.pipelines.rows import fill_missing
from serve.pipelines.wiring import (
    REQUEST,
    Parts,
    compute_by_way,
    require_batched,
    same_outputs,
    values_of,
    wire_to_request,
)
from serve.types import Array, Signature, Tensors


class SwitchKind(Kind):
    """Sends each row to the branch that the first member chooses for it.

    `tensor` is the first member's output that chooses. `branches` maps the text of a value to the
    place of its member among the parts', `default` is the place of the one for all other values.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        tensor: str | None,
        branches: Mapping[str, int],
        default: int | None,
    ) -> None:
        require_batched(parts.where, parts.members)
        self._layers = parts.layers
        inputs, self._members = wire_to_request(parts, "members")
        self._tensor = _choosing_tensor(parts.where, parts.members[0], tensor)
        self._branches = branches
        self._default = default
        outputs = same_outputs(parts.where, parts.members[1:])
        self.signature = Signature("serving_default", inputs, outputs, True)

    def compute(self, inputs: Tensors) -> Tensors:
        """Return each row's outputs, by its branch. Raises InvalidRequest where it has none."""
        values = values_of(REQUEST, inputs)
        chooser = self._members[0]
        with self._layers.time(chooser.label):
            chosen = chooser.compute(values)[self._tensor]
        branches = np.array([self._branch_of(value) for value in _texts(chosen)], np.intp)
        outputs = compute_by_way(self._members, branches, values, self._layers)
        fill_missing(outputs, self.signature.outputs, len(branches))
        return outputs

    def _branch_of(self, value: str) -> int:
        index = self._branches.get(value, self._default)
        if index is None:
            known = ", ".join(self._branches)
            raise InvalidRequest(
                f"the switch has no branch for {self._tensor} = '{value}' and no default "
                f"(branches: {known})"
            )
        return index


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
