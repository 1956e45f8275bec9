"""The state that a model keeps between calls: found, and put back after calls of our own.

Called by saved_model and keras_model, which look for it in their graphs, and by trial.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

# TensorFlow's operations that write to a variable, a table or a queue.
_WRITES = re.compile(
    r"Assign|^(Resource)?(Scatter|Apply|Sparse?Apply)|^LookupTable(Insert|Import|Remove)"
    r"|^Rng|^(Queue|Stack|Barrier|Stage|Unstage).*(Enqueue|Dequeue|Push|Pop|Insert|Take)"
)


def state_ops(function: Any) -> tuple[str, ...]:
    """Return the types of operations by which a concrete function writes to what outlives a call.

    The variable that they write to need not change: `if training:` may be around them.
    """
    operations = {operation.type for operation in function.graph.get_operations()}
    for nested in functions_of(function.graph):
        operations.update(node.op for node in nested.node_def)
    return tuple(sorted(name for name in operations if _WRITES.search(name)))


def functions_of(graph: Any) -> Iterator[Any]:
    """Yield the definitions (FunctionDef) of all functions that a graph may call."""
    library = getattr(graph, "_functions", {})  # a whole GraphDef would copy every constant
    for function in library.values():
        definition = getattr(function, "cached_definition", None) or function.definition
        yield definition


class StateKept:
    """What was written to variables while their state was kept, by the variables' names."""

    def __init__(self) -> None:
        self.written: tuple[str, ...] = ()


@contextmanager
def state_kept(variables: Sequence[Any]) -> Iterator[StateKept]:
    """Put the variables back to what they were, and tell which of them were written to."""
    before = [np.array(variable.numpy()) for variable in variables]
    kept = StateKept()
    try:
        yield kept
    finally:
        pairs = list(zip(variables, before, strict=True))
        changed = [(v, value) for v, value in pairs if not _same(v.numpy(), value)]
        for variable, value in changed:
            variable.assign(value)
        kept.written = tuple(variable.name.split(":")[0] for variable, _ in changed)


def _same(now: Any, before: Any) -> bool:
    return bool(np.asarray(now).tobytes() == before.tobytes())
