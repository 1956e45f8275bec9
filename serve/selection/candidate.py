"""One candidate in a process of its own: does it compute the model's numbers, and how fast.

`python -m serve.selection.candidate JOB.json`, run by trials, which read the report that it leaves.
What it does to this process, it does to nobody else.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from serve.engines.engine import EngineOptions, Library
from serve.engines.function_engine import FunctionEngine
from serve.engines.memory import resident_bytes
from serve.engines.row_independence import TOLERANCE, TOLERANCE_OF_CARDS
from serve.errors import ServeError
from serve.selection.bounded_process import end_with_parent
from serve.selection.cases import Sample, cases_of, read_samples, taken
from serve.selection.comparison import first_difference
from serve.selection.verdict import Measured
from serve.types import Signature, Tensors

# A figure is the best of some turns: what else the machine does only makes it slower.
_TURNS = 5
_TURN_S = 0.12


@dataclass(frozen=True, slots=True)
class Job:
    """What a candidate has to do; `files` are the library's by signature."""

    library: Library
    native: Library
    version: Path
    files: Mapping[str, Path]
    signatures: tuple[Signature, ...]
    default_signature: str
    platform: str
    samples: Path
    sizes: tuple[int, ...]
    options: EngineOptions
    report: Path


@dataclass(frozen=True, slots=True)
class Report:
    """What became of it: figures, or why it is refused."""

    measured: Measured | None
    refused: str = ""


JOB = TypeAdapter(Job)
REPORT = TypeAdapter(Report)


def run(job: Job) -> Report:
    """Load, compare and measure."""
    started = time.perf_counter()
    try:
        engine = _load(job)
    except ServeError as err:
        return Report(None, str(err))
    samples = read_samples(job.samples)
    first = next(sample for sample in samples if sample.signature == job.default_signature)
    signatures = {signature.name: signature for signature in job.signatures}
    default = signatures[job.default_signature]
    sizes = job.sizes if default.batched else ()
    inputs = (
        {size: _rows(first, size) for size in dict.fromkeys((1, sizes[-1]))}
        if sizes
        else {0: first.inputs}
    )
    with suppress(ServeError):  # the comparison says it with its rows
        engine.infer(default.name, next(iter(inputs.values())))
    load_s = time.perf_counter() - started
    tolerance = TOLERANCE_OF_CARDS if job.options.num_gpus else TOLERANCE
    for signature in job.signatures:
        cases = cases_of(samples, signature, job.sizes)
        found = first_difference(
            lambda rows, name=signature.name: engine.infer(name, rows),  # type: ignore[misc]
            cases,
            tolerance,
        )
        if found:
            return Report(None, found)
    rates = {size: _rate(engine, default.name, rows) for size, rows in inputs.items()}
    return Report(Measured(rates, round(load_s, 2), resident_bytes()))


def _load(job: Job) -> FunctionEngine:
    if job.library == job.native:
        from serve.engines.loading import load

        return load(job.version, job.options)
    from serve.selection.libraries import open_engine

    return open_engine(
        job.library,
        job.files,
        {signature.name: signature for signature in job.signatures},
        job.default_signature,
        job.platform,
        job.options,
    )


def _rows(sample: Sample, size: int) -> Tensors:
    count = len(next(iter(sample.inputs.values())))
    return taken(sample.inputs, [row % count for row in range(size)])


def _rate(engine: FunctionEngine, signature: str, inputs: Tensors) -> float:
    """Return rows a second, calls a second for a sample that is taken whole."""
    shapes = [array.shape for array in inputs.values()]
    rows = shapes[0][0] if engine.signatures[signature].batched and shapes[0] else 1
    best = min(_seconds(lambda: engine.infer(signature, inputs)) for _ in range(_TURNS))
    return round(rows / best, 1)


def _seconds(call: Callable[[], object]) -> float:
    """Return the seconds of one call, over as many as fit into a turn; one at least."""
    started = time.perf_counter()
    count = 0
    while (passed := time.perf_counter() - started) < _TURN_S or not count:
        call()
        count += 1
    return passed / count


def main(arguments: Sequence[str]) -> None:
    """Do the job in a file, and leave the report where it says."""
    end_with_parent()
    job = JOB.validate_json(Path(arguments[0]).read_bytes())
    job.report.write_bytes(REPORT.dump_json(run(job)))


if __name__ == "__main__":
    main(sys.argv[1:])
