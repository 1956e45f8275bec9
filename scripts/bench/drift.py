"""What watching for drift costs: batcher and engine with and without a baseline, taking turns.

Each turn measures the rate without a baseline, with one, and without again. WATCHED is the rate
with a baseline over the mean of the two without; AGAIN is the second of the two over the first,
which shows how much chance does. CPU OF LOOKS is the part of the process's CPU seconds that the
monitor's looks took.

Run as `scripts/bench/run drift [repository]`; figures are in docs/performance.md.
"""

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from bench.workload import MODEL
from serve.batching.batcher import Batcher, BatchPolicy
from serve.cli.printing import print_table
from serve.config.sections import Batching
from serve.drift.baseline import Baseline
from serve.drift.monitor import Answered, Monitor
from serve.engines.engine import Engine, EngineOptions
from serve.engines.loading import load
from serve.evaluation.baselines import Examples, make_baseline
from serve.learn.data import digits
from serve.types import Array

_TURNS = 20
_SECONDS = 0.5  # short, so that others on the machine disturb both sides of a turn alike


class Timed(Monitor):
    """A monitor that adds up the CPU seconds of its looks."""

    spent_s = 0.0

    def look(self, signature: str, answered: Answered) -> None:
        started = time.thread_time()
        super().look(signature, answered)
        self.spent_s += time.thread_time() - started


async def rows_per_s(
    engine: Engine, monitor: Monitor | None, images: Array, rows: int, callers: int
) -> tuple[float, float]:
    """Return rows a second, and the CPU seconds that the process took for them."""
    policy = BatchPolicy(Batching(), max_queued_requests=1024)
    batcher = Batcher(engine.infer, policy, lambda run, timing: None, monitor)
    deadline = time.perf_counter() + _SECONDS
    done = 0

    async def call(first: int) -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            first = (first + rows) % (len(images) - rows)
            await batcher.infer(
                engine.default_signature,
                {"image": images[first : first + rows]},
                batched=True,
                timeout_s=60,
                is_alone=lambda: callers == 1,
            )
            done += rows

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call(97 * index) for index in range(callers)))
    batcher.close()
    return done / (time.perf_counter() - wall), time.process_time() - cpu


def table_row(
    engine: Engine, baseline: Baseline, images: Array, rows: int, callers: int
) -> tuple[str, ...]:
    """Return a row of the table: the medians of all turns, at `rows` a request."""
    measure = partial(rows_per_s, engine, images=images, rows=rows, callers=callers)
    turns, looked, share = [], 0, []
    for _ in range(_TURNS):
        monitor = Timed(baseline)
        before, _ = asyncio.run(measure(monitor=None))
        watched, cpu_s = asyncio.run(measure(monitor=monitor))
        after, _ = asyncio.run(measure(monitor=None))
        turns.append((before, watched, after))
        looked += monitor.take_rows()
        share.append(monitor.spent_s / cpu_s)
    before, watched, after = np.array(turns).T
    plain = (before + after) / 2
    return (
        f"{rows}, {callers}",
        f"{np.median(plain):,.0f}",
        f"{np.median(watched / plain):.3f}",
        f"{np.median(after / before):.3f}",
        f"{np.mean(share):.2%}",
        f"{looked / _TURNS / _SECONDS:,.0f}",
    )


def main() -> None:
    """Measure the digits model at 1 and 32 rows a request."""
    repository = Path(sys.argv[1] if len(sys.argv) > 1 else "models")
    images = digits().x_test
    engine = load(repository / MODEL / "1", EngineOptions(num_threads=1))
    engine.warmup(Batching().sizes)
    baseline = make_baseline(engine, Examples({"image": images}, "held-out"), MODEL)
    rows = [
        table_row(engine, baseline, images, rows, callers)
        for rows, callers in ((1, 1), (1, 16), (32, 1), (32, 16))
    ]
    print_table(
        (
            "ROWS, CALLERS",
            "ROWS/S",
            "WATCHED",
            "AGAIN",
            "CPU OF\nLOOKS",
            "LOOKED AT\nROWS/S",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
