"""Switch: a member chooses, row by row, which other member computes."""

from collections.abc import Mapping

import numpy as np

from serve.datatypes import DATATYPES, is_float
from serve.errors import ConfigError, InferenceFailed, InvalidRequest
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
from serve.types import Array, Signature, Tensors, TensorSpec


class SwitchKind(Kind):
    """Sends each row to the branch that the first member chooses for it.

    `tensor` is the first member's output that chooses. `branches` maps the text of a value to the
    place of its member among the parts', `default` is the place of the one for all other values.
    """

    parts_rows = True

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
        texts = self._texts(chosen)
        branches = np.array([self._branch_of(text) for text in texts], np.intp)
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

    def _texts(self, chosen: Array) -> list[str]:
        """Return each row's value as the text that branches are named by; nan where it has none."""
        is_table = is_float(chosen.dtype)
        misfit = _misfit(is_table, chosen.shape)
        if misfit:
            raise InferenceFailed(f"the switch's tensor '{self._tensor}' {misfit}")
        if is_table:
            largest = np.where(np.isnan(chosen).any(axis=1), -1, chosen.argmax(axis=1)).tolist()
            return ["nan" if index < 0 else str(index) for index in largest]
        values = chosen.reshape(len(chosen)).tolist()
        return [v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values]


def _choosing_tensor(where: str, member: Member, tensor: str | None) -> str:
    """Return the name of the chooser's output that chooses. Raises ConfigError."""
    outputs = {spec.name: spec for spec in member.signature.outputs}
    name = _chosen_name(where, member, tensor, outputs)
    spec = outputs[name]
    misfit = (
        None
        if spec.shape is None
        else _misfit(is_float(DATATYPES[spec.datatype].numpy), spec.shape)
    )
    if misfit:
        raise ConfigError(f"{where}.tensor: '{name}' of '{member.label}' {misfit}")
    return name


def _chosen_name(
    where: str, member: Member, tensor: str | None, outputs: Mapping[str, TensorSpec]
) -> str:
    if tensor is None and len(outputs) == 1:
        return next(iter(outputs))
    if tensor is None or tensor not in outputs:
        raise ConfigError(
            f"{where}.tensor: '{member.label}' has no output '{tensor}' (it has: "
            f"{', '.join(outputs)})"
        )
    return tensor


def _misfit(is_float: bool, shape: tuple[int, ...]) -> str:
    """Return why a tensor cannot choose; sizes of -1 are not known and fit."""
    inner = shape[1:]
    if is_float:
        if len(inner) == 1 and inner[0] != 1:
            return ""
        return (
            f"is {list(shape)}; floats choose by the largest of [-1, classes], two or more: let "
            "the model answer its choice as an integer or a text"
        )
    if all(size in (1, -1) for size in inner):
        return ""
    return f"is {list(shape)}; it needs one value a row to choose by"
