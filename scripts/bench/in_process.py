"""The upper bound of any server: the same engine called in a loop, in a process of its own.

Run as `python -m bench.in_process <version folder>`; prints one JSON object.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.evaluation.measure import rss_mb

_SECONDS = 3.0


def median_call_ms(folder: Path, rows: int) -> tuple[float, float]:
    """Return the median milliseconds of a call with `rows` rows, and the process's memory in MB."""
    engine = load(folder, EngineOptions(num_threads=1))
    engine.warmup((rows,))
    memory = rss_mb()
    spec = engine.signatures[engine.default_signature].inputs[0]
    images = np.full((rows, *(spec.shape or ())[1:]), 0.25, np.float32)
    times = []
    deadline = time.perf_counter() + _SECONDS
    while time.perf_counter() < deadline:
        started = time.perf_counter()
        engine.infer(engine.default_signature, {spec.name: images})
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3, memory


def main() -> None:
    """Measure one and 32 rows a call."""
    folder = Path(sys.argv[1])
    one_ms, memory = median_call_ms(folder, 1)
    many_ms, _ = median_call_ms(folder, 32)
    print(json.dumps({"one_ms": one_ms, "many_ms": many_ms, "memory_mb": memory}))


if __name__ == "__main__":
    main()
