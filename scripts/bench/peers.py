"""`scripts/bench/run`: a platform beside its peers, the bare engine and Ray's own Keras example.

All do the same work in one run, on this machine's loopback. Prints a table and the ratios that
matter, and saves both as JSON.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer

from bench.command import run
from bench.load import Body, Measured, measure
from bench.workload import MODEL, PORTS, bodies, platform_config
from serve.cli.printing import err, out, print_table
from serve.evaluation.measure import rss_mb

_CONNECTIONS = (1, 16, 64)
_EXAMPLE_PORT = 18003


def bench(
    repository: Annotated[Path, typer.Option(help="Repository with the digits model.")] = Path(
        "models"
    ),
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load for each row.")] = 5,
    output: Annotated[Path, typer.Option(help="Where the figures are kept.")] = Path(
        "bench-results/bench.json"
    ),
) -> None:
    """Measure throughput and latency over HTTP against the engine and Ray's Keras example."""
    folder = repository.resolve() / MODEL / "1"
    err.print("the engine in process")
    engine = _in_process(folder)
    rows: dict[str, Measured] = {}
    err.print("Ray Serve's own Keras example")
    with _ray_example(folder / "model.h5") as url:
        body = Body(orjson.dumps({"array": [0.25] * 784}))
        for connections in _CONNECTIONS:
            rows[f"ray example, JSON, {connections}"] = measure(url, [body], connections, seconds)
    err.print("strata up")
    with _platform(repository.resolve()) as (url, ready_s, memory_mb):
        for name, body in bodies().items():
            for connections in _CONNECTIONS:
                rows[f"{name}, {connections}"] = measure(url, [body], connections, seconds)
    again = _in_process(folder)  # the machine is shared: the bound is taken before and after
    engine = {key: (engine[key] + again[key]) / 2 for key in engine}
    ratios = ratios_of(engine, rows, ready_s, memory_mb)
    _print(engine, rows, ratios)
    output.parent.mkdir(parents=True, exist_ok=True)
    figures = {"engine": engine, "rows": {k: asdict(v) for k, v in rows.items()}, "ratios": ratios}
    output.write_text(json.dumps(figures, indent=2))
    out.print(f"saved to {output}")


def _in_process(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.in_process", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


@contextmanager
def _ray_example(model: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.ray_example", str(model), str(_EXAMPLE_PORT)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        while process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                raise RuntimeError("Ray's example did not start")
        yield f"http://127.0.0.1:{_EXAMPLE_PORT}/"
        process.stdin.close()
        process.wait(60)


@contextmanager
def _platform(repository: Path) -> Iterator[tuple[str, float, float]]:
    """Start a platform; yield the infer URL, seconds until ready, and the replica's MB."""
    from serve.deploy.local_platform import LocalPlatform

    started = time.perf_counter()
    with LocalPlatform(platform_config(repository)) as platform:
        platform.start()
        platform.wait_ready(300)
        ready_s = time.perf_counter() - started
        yield (
            f"http://127.0.0.1:{PORTS['http']}/v2/models/{MODEL}/infer",
            ready_s,
            _replica_memory_mb(),
        )


def _replica_memory_mb() -> float:
    """Return the memory of the model's replica process, which Ray gives a telling title."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(f"ray::ServeReplica:{MODEL}:".encode()):
            return rss_mb(process.name)
    return float("nan")


def ratios_of(
    engine: dict[str, float], rows: dict[str, Measured], ready_s: float, memory_mb: float
) -> dict[str, float]:
    """Return the platform's figures over those of the engine in process and of Ray's example."""
    images_per_s = 32 * max(rows[f"binary x32, {c}"].requests_per_s for c in _CONNECTIONS)
    example = rows["ray example, JSON, 16"].requests_per_s
    return {
        "times Ray's example at 16 connections, JSON": rows["JSON, 16"].requests_per_s / example,
        "share of the engine's images/s, 32 a request": images_per_s / (32e3 / engine["many_ms"]),
        "ms above the engine, one connection, binary": rows["binary, 1"].median_ms
        - engine["one_ms"],
        "ms above the engine, one connection, JSON": rows["JSON, 1"].median_ms - engine["one_ms"],
        "seconds until ready": ready_s,
        "times the memory of a process that only loads the model": memory_mb / engine["memory_mb"],
    }


def _print(engine: dict[str, float], rows: dict[str, Measured], ratios: dict[str, float]) -> None:
    out.print(
        f"engine in process: {engine['one_ms']:.2f} ms a call of 1 row, "
        f"{32e3 / engine['many_ms']:,.0f} images/s at 32 rows, {engine['memory_mb']:.0f} MB\n"
    )
    print_table(
        ("REQUEST, CONNECTIONS", "REQ/S", "MEDIAN MS", "P99 MS"),
        [
            (name, f"{m.requests_per_s:,.0f}", f"{m.median_ms:.2f}", f"{m.p99_ms:.2f}")
            for name, m in rows.items()
        ],
    )
    print_table(("RATIO", ""), [(name, f"{value:.2f}") for name, value in ratios.items()])


if __name__ == "__main__":
    run(bench)
