"""Cascade: layers from cheap to dear; each answers the rows that it is sure of.

Row by row: only rows that did not exit go on, so a batch shrinks on its way. The outputs say which
layer answered each row, and whether a later layer that should have had it was late or failed.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass

import numpy as np

from serve.batching.deadline import until
from serve.datatypes import DATATYPES, is_float
from serve.errors import ConfigError, DeadlineExceeded, InferenceFailed, ServeError
from serve.pipelines.exits import exits, misfit
from serve.pipelines.member import Member
from serve.pipelines.pipeline_engine import Kind
from serve.pipelines.rows import Rows, fill_missing, put
from serve.pipelines.wiring import (
    REQUEST,
    Parts,
    Values,
    WiredMember,
    require_batched,
    require_own,
    values_of,
    wire_to_request,
)
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


@dataclass(frozen=True, slots=True)
class CascadeLayer:
    """A member of a cascade with its rule, whose tensor is named and checked."""

    wired: WiredMember
    rule: LayerRule

    @property
    def label(self) -> str:
        return self.wired.label


class CascadeKind(Kind):
    """Runs layers until one has answered each row.

    With `answers_late` a row keeps the outputs of the best layer so far when a later layer is late
    or fails; without it the request fails.
    """

    parts_rows = True

    def __init__(self, parts: Parts, *, rules: Sequence[LayerRule], answers_late: bool) -> None:
        require_batched(f"{parts.where}.layers", parts.members)
        self._recorder = parts.layers
        self._answers_late = answers_late
        inputs, wired = wire_to_request(parts, "layers")
        outputs = parts.members[-1].signature.outputs
        require_own(f"{parts.where}.layers", outputs, _MARKS)
        self._output_names = {spec.name for spec in outputs}
        self.layers = [
            CascadeLayer(
                each, _checked(f"{parts.where}.layers[{index}]", each.member, rule, outputs)
            )
            for index, (each, rule) in enumerate(zip(wired, rules, strict=True))
        ]
        # One thread a layer: what is late holds up later calls of its own layer and of no other.
        self._threads = {
            layer.label: ThreadPoolExecutor(1, thread_name_prefix=f"layer-{layer.label}")
            for layer in self.layers
            if layer.rule.deadline_s is not None
        }
        self.signature = Signature("serving_default", inputs, (*outputs, *_MARKS), True)

    def compute(self, inputs: Tensors) -> Tensors:
        """Return for every row the outputs of the first layer that is sure of it."""
        values = values_of(REQUEST, inputs)
        total = len(next(iter(inputs.values())))
        outputs: Tensors = {
            "layer": np.full(total, b"", object),
            "degraded": np.zeros(total, np.bool_),
            "abstained": np.zeros(total, np.bool_),
        }
        rows: Rows = np.arange(total)
        for index, layer in enumerate(self.layers):
            if not len(rows):
                break
            try:
                computed = self._run(layer, values, rows)
            except Exception as err:
                self._degrade(index, rows, outputs, err)
                rows = rows[:0]
                break
            rows = self._settle(layer, rows, computed, outputs)
        fill_missing(outputs, self.signature.outputs, total)
        return {spec.name: outputs[spec.name] for spec in self.signature.outputs}

    def close(self) -> None:
        """End the threads that watch deadlines; a layer that still computes ends its own."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, layer: CascadeLayer, values: Values, rows: Rows) -> Tensors:
        deadline_s = layer.rule.deadline_s
        with self._recorder.time(layer.label):
            if deadline_s is None:
                return layer.wired.compute(values, rows)
            # In the same context, so that a member elsewhere learns of the trace and the deadline,
            # by which it ends what it does; one in this process that has not begun does not.
            with until(time.perf_counter() + deadline_s):
                run = copy_context().run
                work = self._threads[layer.label].submit(run, layer.wired.compute, values, rows)
            if not wait([work], deadline_s).done:
                work.cancel()  # if it waits behind one that was late before, nobody wants it now
                # Before what it raises is looked at: that may be a TimeoutError of its own.
                raise DeadlineExceeded(f"layer '{layer.label}' took longer than {deadline_s:g} s")
            return work.result()

    def _settle(self, layer: CascadeLayer, rows: Rows, computed: Tensors, outputs: Tensors) -> Rows:
        """Write what a layer computed for its rows and return those that go on."""
        label, rule = layer.label, layer.rule
        own = {name: array for name, array in computed.items() if name in self._output_names}
        put(outputs, rows, own, len(outputs["layer"]))
        if own:
            outputs["layer"][rows] = label.encode()
        if rule.rule is None or rule.output is None:
            self._recorder.count(label, "answered", len(rows))
            return rows[:0]
        try:
            leaves = exits(rule.rule, rule.threshold, computed[rule.output])
        except InferenceFailed as err:
            raise InferenceFailed(f"layer '{label}', output '{rule.output}': {err}") from err
        abstains = rule.rule == "score_above"
        outputs["layer"][rows[leaves]] = label.encode()
        outputs["abstained"][rows[leaves]] = abstains
        outcome = "abstained" if abstains else "answered"
        self._recorder.count(label, outcome, int(leaves.sum()))
        self._recorder.count(label, "passed", int((~leaves).sum()))
        return rows[~leaves]

    def _degrade(self, index: int, rows: Rows, outputs: Tensors, err: Exception) -> None:
        """Leave the rows what the best layer so far computed, or raise where there is none."""
        before = [layer.label for layer in self.layers[:index] if self._has_all_outputs(layer)]
        if not self._answers_late or not before:
            raise _failed(self.layers[index].label, err) from err
        outputs["degraded"][rows] = True
        self._recorder.count(before[-1], "degraded", len(rows))

    def _has_all_outputs(self, layer: CascadeLayer) -> bool:
        own = {spec.name for spec in layer.wired.member.signature.outputs}
        return self._output_names <= own


def _failed(label: str, err: Exception) -> ServeError:
    """Return what a request fails with: of the kind that the layer failed with, if that is ours."""
    if isinstance(err, DeadlineExceeded):
        return err
    kind = type(err) if isinstance(err, ServeError) else InferenceFailed
    said = str(err) if isinstance(err, ServeError) else type(err).__name__
    return kind(f"layer '{label}' failed: {said}")


def _checked(
    where: str, member: Member, rule: LayerRule, wanted: tuple[TensorSpec, ...]
) -> LayerRule:
    """Return the rule with its tensor named and checked. Raises ConfigError."""
    outputs = {spec.name: spec for spec in member.signature.outputs}
    has_all = all(outputs.get(spec.name) == spec for spec in wanted)
    if not has_all and rule.rule != "score_above":
        names = ", ".join(spec.name for spec in wanted)
        raise ConfigError(
            f"{where}: '{member.label}' does not answer {names} like the last layer; only a layer "
            "with score_above may answer something else"
        )
    if rule.rule is None:
        return rule
    floats = [name for name, spec in outputs.items() if is_float(DATATYPES[spec.datatype].numpy)]
    name = rule.output or (floats[0] if len(floats) == 1 else "")
    if name not in floats:
        raise ConfigError(
            f"{where}.exit.output: '{name}' is no float output of '{member.label}' "
            f"(it has: {', '.join(floats)})"
        )
    unfit = misfit(rule.rule, outputs[name])
    if unfit:
        raise ConfigError(f"{where}.exit: {unfit}")
    return LayerRule(rule.rule, rule.threshold, name, rule.deadline_s)
