"""Measure one model or pipeline in a process of its own, so that its memory is its own.

Run as `python -m serve.evaluation.measure` with a JSON task on standard input, by comparison.
Prints one JSON object. The engine is called the way a replica calls it, with the replica's
number of threads, on real rows: what a cascade costs depends on them.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.batching.merging import chunks, join
from serve.config.file import load
from serve.config.schema import Config, Model
from serve.errors import ConfigError, ServeError
from serve.evaluation.dataset import HELD_OUT, Dataset, held_out, read_npz
from serve.evaluation.quality import Asked, Kind, NothingToCompare, tell
from serve.evaluation.subject import Reference, Subject, find_served, load_subject
from serve.pipelines.rows import choose
from serve.repository.repository import Repository, configured
from serve.types import Array, Tensors

BATCH_ROWS = 32
_SECONDS = 2.0
_MOST_BYTES = 100_000_000  # of a model that is loaded again
_MORE = 8  # the first ones fit into what the library has over


@dataclass(frozen=True, slots=True)
class Task:
    """What to measure: a config file, a name, a version, and the data as --data names it.

    The last three are what is asked for of the measure, as in quality.Asked.
    """

    config: str
    name: str
    version: int | None
    data: str
    kind: Kind = "auto"
    tensor: str | None = None
    yes_above: float | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured; None where there is no such figure.

    `accuracy` is the part of the rows that are right, where a row can be; `measure` says what was
    compared with the labels, or why nothing could be, `figure` names the first of `figures`.
    `rows_per_s` at 32 rows a call, `median_ms` and `p99_ms` of calls of one row, `flops` of the
    average row of the data, `labels` the number of labels the model was trained with. `engines` are
    the libraries that compute, `added_mb` what one more model like this takes in a process that has
    one: in a pool. It is not known of pipelines and of models of more than 100 MB.
    """

    accuracy: float | None
    rows_per_s: float
    median_ms: float
    p99_ms: float
    parameters: int
    flops: float | None
    memory_mb: float
    labels: int | None
    measure: str = "classes"
    figure: str | None = "accuracy"
    figures: Mapping[str, float] = field(default_factory=dict)
    engines: Sequence[str] = ()
    added_mb: float | None = None


def measure(task: Task) -> Figures:
    """Load what the task names, compute all rows for accuracy, then some again for time."""
    config = load(Path(task.config))
    repository = configured(config.repository)
    subject = load_subject(config, repository, Reference(task.name, task.version))
    data = dataset_for(task.data, subject)
    signature = subject.member.signature
    if not signature.batched:
        raise ConfigError(
            f"'{task.name}' does not compute row by row, so labels of rows say nothing about it"
        )
    inputs = data.inputs_of(signature, task.name)
    memory = rss_mb()
    added = _added_mb(config, repository, task, memory)
    outputs = compute_all(subject.member.compute, inputs)
    compared = _compared(Asked(task.kind, task.tensor, task.yes_above), task, outputs, data.labels)
    flops = _flops_of_a_row(subject, len(data))
    rows_per_s, median_ms, p99_ms = _times(subject.member.compute, inputs, len(data))
    labels = subject.metadata.get("labels")
    return Figures(
        rows_per_s=rows_per_s,
        median_ms=median_ms,
        p99_ms=p99_ms,
        parameters=sum(model.complexity().parameters or 0 for model in subject.models),
        flops=flops,
        memory_mb=memory,
        labels=labels if isinstance(labels, int) else None,
        engines=tuple(dict.fromkeys(model.library for model in subject.models)),
        added_mb=added,
        **compared,
    )


def _added_mb(config: Config, repository: Repository, task: Task, before_mb: float) -> float | None:
    """Load a model some times more, and return by how much each has the process grow."""
    if not isinstance(find_served(config, task.name), Model):
        return None
    number = repository.choose(task.name, task.version)
    manifest = repository.manifest(task.name, number)
    if manifest is None or manifest.size_bytes > _MOST_BYTES:
        return None
    reference = Reference(task.name, number)
    more = [load_subject(config, repository, reference) for _ in range(_MORE)]
    return max(rss_mb() - before_mb, 0.0) / len(more)


def _compared(asked: Asked, task: Task, outputs: Tensors, labels: Array) -> dict[str, Any]:
    """Return the fields of Figures that come of the labels."""
    try:
        told = tell(asked, outputs, labels)
        figures = dict(told.figures(outputs, labels))
    except NothingToCompare as err:
        if asked.kind != "auto":
            raise ConfigError(f"'{task.name}' cannot be measured as {asked.kind}: {err}") from err
        return {"accuracy": None, "measure": f"not measured: {err}", "figure": None, "figures": {}}
    except ConfigError as err:
        raise ConfigError(f"'{task.name}': {err}") from err
    accuracy = None if told.kind == "regression" else figures[told.figure]
    return {"accuracy": accuracy, "measure": told.text, "figure": told.figure, "figures": figures}


def dataset_for(data: str, subject: Subject) -> Dataset:
    """Return the data that --data names: `held-out`, or an .npz file."""
    if data == HELD_OUT:
        return held_out(subject.metadata, subject.served.name)
    return read_npz(Path(data))


def compute_all(compute: Callable[[Tensors], Tensors], inputs: Tensors) -> Tensors:
    """Return the outputs for all rows, computed in batches."""
    return join([compute(piece) for piece in chunks(inputs, BATCH_ROWS)])


def rss_mb(pid: int | str = "self") -> float:
    """Return the resident memory of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def _flops_of_a_row(subject: Subject, rows: int) -> float | None:
    """Return the operations of an average row; each model counts for its share of the rows."""
    costs = [(model.complexity().flops, model.rows / rows) for model in subject.models]
    if any(flops is None for flops, _ in costs):
        return None
    return sum(flops * share for flops, share in costs if flops is not None)


def _times(
    compute: Callable[[Tensors], Tensors], inputs: Tensors, total: int
) -> tuple[float, float, float]:
    many = _call_times(compute, inputs, total, BATCH_ROWS)
    one = _call_times(compute, inputs, total, 1) * 1e3
    return BATCH_ROWS / float(np.mean(many)), float(np.median(one)), float(np.quantile(one, 0.99))


def _call_times(
    compute: Callable[[Tensors], Tensors], inputs: Tensors, total: int, rows: int
) -> npt.NDArray[np.float64]:
    """Return the seconds of each call with `rows` rows, drawn at random for each."""
    random = np.random.default_rng(0)
    times = []
    deadline = time.perf_counter() + _SECONDS
    while time.perf_counter() < deadline:
        batch = choose(inputs, random.integers(total, size=rows))
        started = time.perf_counter()
        compute(batch)
        times.append(time.perf_counter() - started)
    return np.array(times)


def main() -> None:
    """Read a task from standard input and print its figures, or {"error": message}, as JSON."""
    try:
        print(json.dumps(asdict(measure(Task(**json.load(sys.stdin))))))
    except ServeError as err:
        print(json.dumps({"error": str(err)}))


if __name__ == "__main__":
    main()
