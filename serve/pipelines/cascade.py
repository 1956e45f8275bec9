"""Cascade: layers from cheap to dear; each answers the rows that it is sure of.

Row by row: only rows that did not exit go on, so a batch shrinks on its way. The answer says
which layer answered each row, and whether a later layer that should have had it was late or failed.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np

from serve.errors import ConfigError, DeadlineExceeded, InferenceFailed, ServeError
from serve.pipelines.exits import exits
from serve.pipelines.layer_metrics import Observer
from serve.pipelines.member import Member
from serve.pipelines.rows import Rows, choose, fill_missing, put
from serve.pipelines.shared import request_of, require_batched
from serve.pipelines.wiring import REQUEST, take, values_of
from serve.types import Signature, Tensors, TensorSpec

_MARKS = (
    TensorSpec("layer", "BYTES", (-1,)),
    TensorSpec("degraded", "BOOL", (-1,)),
    TensorSpec("abstained", "BOOL", (-1,)),
)


@dataclass(frozen=True, slots=True)
class LayerRule:
    """How rows leave a layer: a rule's name, its threshold, the tensor it looks at; a deadline."""

    rule: str | None
    threshold: float
    output: str | None
    deadline_s: float | None


class CascadeKind:
    """Runs layers until every row has an answer."""

    def __init__(
        self,
        where: str,
        members: Sequence[Member],
        wires: Sequence[dict[str, str]],
        rules: Sequence[LayerRule],
        answer_late: bool,
        observe: Observer,
    ) -> None:
        require_batched(f"{where}.layers", members)
        self._observe = observe
        self._answer_late = answer_late
        inputs, connected = request_of(f"{where}.layers", members, wires)
        answer = members[-1].signature.outputs
        self._answer = {spec.name for spec in answer}
        self.layers = [
            (member, wiring, _with_output(f"{where}.layers[{index}]", member, rule, answer))
            for index, (member, wiring, rule) in enumerate(
                zip(members, connected, rules, strict=True)
            )
        ]
        self._watch = ThreadPoolExecutor(len(members), thread_name_prefix="layer")
        self.signature = Signature("serving_default", inputs, (*answer, *_MARKS), True)

    def compute(self, inputs: Tensors) -> Tensors:
        """Answer every row by the first layer that is sure of it."""
        values = values_of(REQUEST, inputs)
        total = len(next(iter(inputs.values())))
        answers: Tensors = {
            "layer": np.full(total, b"", object),
            "degraded": np.zeros(total, np.bool_),
            "abstained": np.zeros(total, np.bool_),
        }
        rows: Rows = np.arange(total)
        for index, (member, wiring, rule) in enumerate(self.layers):
            if not len(rows):
                break
            try:
                outputs = self._run(member, choose(take(wiring, values), rows), rule.deadline_s)
            except ServeError as err:
                self._degrade(index, rows, answers, err)
                rows = rows[:0]
                break
            rows = self._settle(member, rule, rows, outputs, answers)
        fill_missing(answers, self.signature.outputs, total)
        return {spec.name: answers[spec.name] for spec in self.signature.outputs}

    def _run(self, member: Member, inputs: Tensors, deadline_s: float | None) -> Tensors:
        with self._observe.layer(member.label):
            if deadline_s is None:
                return member.compute(inputs)
            # In the same context, so that a member elsewhere learns of the trace.
            work = self._watch.submit(copy_context().run, member.compute, inputs)
            try:
                return work.result(deadline_s)
            except LateError as err:
                raise DeadlineExceeded(
                    f"layer '{member.label}' took longer than {deadline_s:g} s"
                ) from err

    def _settle(
        self, member: Member, rule: LayerRule, rows: Rows, outputs: Tensors, answers: Tensors
    ) -> Rows:
        """Write down what a layer says of its rows and return those that go on."""
        mine = {name: array for name, array in outputs.items() if name in self._answer}
        put(answers, rows, mine, len(answers["layer"]))
        if mine:
            answers["layer"][rows] = member.label.encode()
        if rule.rule is None or rule.output is None:
            self._observe.count(member.label, "answered", len(rows))
            return rows[:0]
        leaves = exits(rule.rule, rule.threshold, outputs[rule.output])
        abstains = rule.rule == "score_above"
        answers["layer"][rows[leaves]] = member.label.encode()
        answers["abstained"][rows[leaves]] = abstains
        outcome = "abstained" if abstains else "answered"
        self._observe.count(member.label, outcome, int(leaves.sum()))
        self._observe.count(member.label, "passed", int((~leaves).sum()))
        return rows[~leaves]

    def _degrade(self, index: int, rows: Rows, answers: Tensors, err: ServeError) -> None:
        """Let the rows keep the answer of the best layer so far, or raise where there is none."""
        answered = [member.label for member, _, _ in self.layers[:index] if self._speaks(member)]
        if not self._answer_late or not answered:
            if isinstance(err, DeadlineExceeded):
                raise err
            raise InferenceFailed(f"layer '{self.layers[index][0].label}' failed: {err}") from err
        answers["degraded"][rows] = True
        self._observe.count(answered[-1], "degraded", len(rows))

    def _speaks(self, member: Member) -> bool:
        return self._answer <= {spec.name for spec in member.signature.outputs}


def _with_output(
    where: str, member: Member, rule: LayerRule, answer: tuple[TensorSpec, ...]
) -> LayerRule:
    """Return the rule with its tensor named and checked. Raises ConfigError."""
    outputs = {spec.name: spec for spec in member.signature.outputs}
    speaks = all(outputs.get(spec.name) == spec for spec in answer)
    if not speaks and rule.rule != "score_above":
        names = ", ".join(spec.name for spec in answer)
        raise ConfigError(
            f"{where}: '{member.label}' does not answer {names} like the last layer; only a layer "
            "with score_above may answer something else"
        )
    if rule.rule is None:
        return rule
    floats = [name for name, spec in outputs.items() if spec.datatype.startswith("FP")]
    name = rule.output or (floats[0] if len(floats) == 1 else "")
    if name not in floats:
        raise ConfigError(
            f"{where}.exit.output: '{name}' is no float output of '{member.label}' "
            f"(it has: {', '.join(floats)})"
        )
    shape = outputs[name].shape or ()
    if not rule.rule.startswith("score") and len(shape) != 2:
        raise ConfigError(
            f"{where}.exit: {rule.rule} needs [-1, classes], '{name}' is {list(shape)}"
        )
    return LayerRule(rule.rule, rule.threshold, name, rule.deadline_s)
