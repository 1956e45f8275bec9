"""The upper bound of any server: the signature that they all serve, called in a process of its own.

It is called as every peer's server calls it, and not as Strata's engine does, which is quicker:
what a machine needs for it says how fast the machine is, whatever becomes of Strata. Run as
`python -m bench.peers.in_process <SavedModel>`; prints one JSON object. Its answers to the first
held-out digits are what every server is held against.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.peers.figures import Engine
from bench.peers.servers.signature import load
from serve.errors import ServeError
from serve.evaluation.measure import rss_mb
from serve.types import Array

_SIZES = (1, 2, 4, 8, 16, 32, 64)
_SECONDS_A_SIZE = 0.7


@dataclass(frozen=True, slots=True)
class InProcess:
    """The engine's figures, and its probabilities [N, 10] for the images that it was given."""

    engine: Engine
    answers: Array


def measured(folder: Path, images: Array) -> InProcess:
    """Return what the engine of a version's folder does in a process of its own.

    Raises ServeError if it does nothing there.
    """
    command = [sys.executable, "-m", "bench.peers.in_process", str(folder)]
    done = subprocess.run(
        command, input=json.dumps(images.tolist()), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise ServeError(f"the engine in process failed: {done.stderr.strip()[-500:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    by_rows = {
        key: {int(rows): value for rows, value in figures["engine"][key].items()}
        for key in ("call_ms", "cpu_us_a_row")
    }
    engine = Engine(memory_mb=figures["engine"]["memory_mb"], **by_rows)
    return InProcess(engine, np.array(figures["answers"], np.float32))


def _calls(infer: Callable[[Array], Array], images: Array) -> tuple[float, float]:
    """Return the median milliseconds of a call with these rows, and the CPU µs of each row."""
    infer(images)
    times = []
    cpu_started = time.process_time()
    deadline = time.perf_counter() + _SECONDS_A_SIZE
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        infer(images)
        times.append(time.perf_counter() - started)
    cpu_s = time.process_time() - cpu_started
    return float(np.median(times)) * 1e3, 1e6 * cpu_s / len(times) / len(images)


def main() -> None:
    """Measure calls of 1 to 64 rows, and answer the images on standard input."""
    images = np.array(json.load(sys.stdin), np.float32)
    infer = load(sys.argv[1])
    answers = infer(images).tolist()
    memory = rss_mb()
    calls = {
        rows: _calls(infer, np.full((rows, *images.shape[1:]), 0.25, np.float32)) for rows in _SIZES
    }
    figures = Engine(
        call_ms={rows: call_ms for rows, (call_ms, _) in calls.items()},
        cpu_us_a_row={rows: cpu_us for rows, (_, cpu_us) in calls.items()},
        memory_mb=memory,
    )
    print(json.dumps({"engine": asdict(figures), "answers": answers}))


if __name__ == "__main__":
    main()
