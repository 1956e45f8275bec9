"""What watching for drift costs: batcher and engine with and without a baseline, taking turns.

Each turn measures without, with and again without: WATCHED is the rate with a baseline over the
mean of those beside it, AGAIN one of these over the other, which shows how far chance goes.

Run as `python -m serve.bench.drift [repository]`; figures are in docs/performance.md.
"""

import asyncio
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from serve.batching.batcher import Batcher
from serve.batching.policy import BatchPolicy
from serve.bench.main import MODEL
from serve.cli.printing import print_table
from serve.config_sections import Batching
from serve.drift.baseline import Baseline
from serve.drift.monitor import Monitor
from serve.engines.engine import Engine, EngineOptions
from serve.engines.loading import load
from serve.evaluation.baselines import Examples, make_baseline
from serve.learn.data import digits
from serve.types import Array

_TURNS = 60
_SECONDS = 0.3  # short, so that others on the machine disturb both sides of a turn alike


async def rows_per_s(
    engine: Engine, monitor: Monitor | None, images: Array, rows: int, callers: int
) -> tuple[float, float]:
    """Return rows a second of wall time and of the process's CPU time."""
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
    figures = done / (time.perf_counter() - wall), done / (time.process_time() - cpu)
    batcher.close()
    return figures


def compare(
    engine: Engine, baseline: Baseline, images: Array, rows: int, callers: int
) -> tuple[object, ...]:
    """Return a line of the table: the median of what is left of each turn's rate."""
    measure = partial(rows_per_s, engine, images=images, rows=rows, callers=callers)
    looked = 0
    turns = []
    for turn in range(_TURNS):
        monitor = Monitor(baseline)
        kinds = [None, monitor, None]
        order = [0, 1, 2] if turn % 2 else [2, 1, 0]
        turns.append([asyncio.run(measure(monitor=kinds[kind])) for kind in order])
        looked += monitor.take_rows()
    rates = np.array(turns)
    plain = (rates[:, 0] + rates[:, 2]) / 2
    watched, again = rates[:, 1] / plain, rates[:, 0] / rates[:, 2]
    return (
        f"{rows}, {callers}",
        f"{np.median(plain[:, 0]):,.0f}",
        *(f"{value:.3f}" for value in (*np.median(watched, axis=0), *np.median(again, axis=0))),
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
        compare(engine, baseline, images, rows, callers)
        for rows, callers in ((1, 1), (1, 16), (32, 1), (32, 16))
    ]
    print_table(
        (
            "ROWS, CALLERS",
            "ROWS/S",
            "WATCHED",
            "WATCHED\nBY CPU",
            "AGAIN",
            "AGAIN\nBY CPU",
            "LOOKED AT\nROWS/S",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
