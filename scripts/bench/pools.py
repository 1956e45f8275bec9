"""`scripts/bench/run pools`: many copies of the digits model in one pool, beside one by itself.

How long they take to start, what the replica holds, what a model answers when all are asked in turn
against one that is asked alone, and how a quiet one fares beside the noise of the others.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import requests
import typer

from bench.command import run, save
from bench.load import Body, Measured, measure
from bench.peers.processes import command_of, descendants, memory_mb
from bench.workload import MODEL, PORTS, blank_images, v2_binary
from serve.cli.printing import err, print_table
from serve.config.file import load
from serve.config.schema import Config
from serve.errors import ServeError
from serve.repository.engine_folders import ENGINES
from serve.repository.layout import version_number

_POOL, _REPLICA = "many", "pool-many"
_CONNECTIONS = 16
_ROUNDS = 3  # taking turns: the machine is shared
_QUIET_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured: bytes, seconds, requests a second, milliseconds."""

    models: int
    start_s: float
    pool_bytes: int
    alone_bytes: int
    in_turn_per_s: float
    one_of_pool_per_s: float
    alone_per_s: float
    quiet_p50_ms: float
    quiet_p99_ms: float
    noisy_p99_ms: float


def bench(
    models: Annotated[int, typer.Option(min=2, help="Copies in the pool.")] = 100,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds of load for each turn.")] = 5,
    cpus: Annotated[int, typer.Option(min=1, help="Cores of the pool.")] = 1,
    config: Annotated[Path, typer.Option(help="File of the repository that has digits.")] = Path(
        "strata.yaml"
    ),
    output: Annotated[Path, typer.Option(help="Where the figures are kept.")] = Path(
        "bench-results/pools.json"
    ),
) -> None:
    """Measure a pool of many small models beside one with replicas of its own."""
    root = Path(load(config).repository.root)
    with tempfile.TemporaryDirectory(prefix="strata-pools-") as folder:
        names = publish_copies(root / MODEL, Path(folder), models)
        figures = _measured(pool_config(Path(folder), names, cpus), names, seconds)
    print_table(("FIGURE", ""), _rows(figures))
    save(asdict(figures), output)


def publish_copies(model: Path, folder: Path, count: int) -> list[str]:
    """Put copies of a model's newest version into a folder, and one that keeps its name.

    Returns the copies' names. The files are linked, as nobody writes them, and those of the engines
    that were tried go with them.
    """
    versions = [v for path in model.glob("*") if (v := version_number(path.name)) is not None]
    if not versions:
        raise ServeError(f"{model} holds no version; strata train {MODEL}")
    newest = model / str(max(versions))
    names = [f"{MODEL}-{index:03d}" for index in range(count)]
    for name in (MODEL, *names):
        shutil.copytree(newest, folder / name / newest.name, copy_function=_link)
        if (model / ENGINES).is_dir():
            shutil.copytree(model / ENGINES, folder / name / ENGINES, copy_function=_link)
    return names


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)


def pool_config(repository: Path, names: Sequence[str], cpus: int) -> Config:
    """Return the config of a platform with a pool of all copies, and one model by itself."""
    options = {"num_cpus": cpus}
    pooled = [{"name": name, "pool": _POOL} for name in names]
    return Config.model_validate(
        {
            "repository": {"root": str(repository), "try_engines": False},
            "http": {"port": PORTS["http"]},
            "ports": {"metrics": PORTS["metrics"], "dashboard": PORTS["dashboard"]},
            "models": [{"name": MODEL, "ray_actor_options": options}, *pooled],
            "pools": [{"name": _POOL, "ray_actor_options": options}],
        }
    )


def _measured(config: Config, names: list[str], seconds: int) -> Figures:
    body = v2_binary(blank_images(1))
    with _platform(config) as (url, start_s):
        _require_answers(url, names, body)
        paths = [f"/v2/models/{name}/infer" for name in names]
        rates: dict[str, list[float]] = {"in turn": [], "one": [], "alone": []}
        for _ in range(_ROUNDS):
            asked = {"in turn": paths, "one": paths[:1], "alone": [f"/v2/models/{MODEL}/infer"]}
            for what, among in asked.items():
                err.print(f"{what}, {_CONNECTIONS} connections")
                measured = measure(url, [body], _CONNECTIONS, seconds, among)
                rates[what].append(measured.requests_per_s)
        noisy, quiet_ms = _quiet_beside(url, paths, body, seconds)
        return Figures(
            models=len(names),
            start_s=start_s,
            pool_bytes=resident_bytes(_REPLICA),
            alone_bytes=resident_bytes(MODEL),
            in_turn_per_s=max(rates["in turn"]),
            one_of_pool_per_s=max(rates["one"]),
            alone_per_s=max(rates["alone"]),
            quiet_p50_ms=float(np.percentile(quiet_ms, 50)),
            quiet_p99_ms=float(np.percentile(quiet_ms, 99)),
            noisy_p99_ms=noisy.p99_ms,
        )


@contextmanager
def _platform(config: Config) -> Iterator[tuple[str, float]]:
    """Start a platform; yield its URL and the seconds until all models answer."""
    from serve.deploy.local_platform import LocalPlatform

    with LocalPlatform(config) as platform:
        platform.start()
        started = time.monotonic()
        platform.wait_ready(1800)
        platform.require_ingress()
        yield f"http://127.0.0.1:{PORTS['http']}", time.monotonic() - started


def _require_answers(url: str, names: Sequence[str], body: Body) -> None:
    """Ask every model once, by which the ingress learns where it is. Raises ServeError."""
    with requests.Session() as session:
        for name in names:
            _ask(session, f"{url}/v2/models/{name}/infer", body)


def _ask(session: requests.Session, url: str, body: Body) -> None:
    headers = {"Inference-Header-Content-Length": str(body.json_length)}
    response = session.post(url, data=body.data, headers=headers, timeout=60)
    if response.status_code != 200:
        raise ServeError(f"{url} answered {response.status_code}: {response.text[:300]}")


def _quiet_beside(
    url: str, paths: Sequence[str], body: Body, seconds: int
) -> tuple[Measured, list[float]]:
    """Return what the others answer, and the milliseconds of one that is asked now and then."""
    from concurrent.futures import ThreadPoolExecutor

    quiet, *noisy = paths
    err.print(f"one beside the noise of {len(noisy)}")
    taken: list[float] = []
    with ThreadPoolExecutor(1) as executor, requests.Session() as session:
        noise = executor.submit(measure, url, [body], _CONNECTIONS, seconds, noisy)
        while not noise.done():
            started = time.perf_counter()
            _ask(session, url + quiet, body)
            taken.append((time.perf_counter() - started) * 1e3)
            time.sleep(_QUIET_PAUSE_S)
        return noise.result(), taken


def resident_bytes(application: str) -> int:
    """Return the memory of an application's replica of this platform. Raises ServeError."""
    for process in descendants(os.getpid()):
        if command_of(process.pid).startswith(f"ray::ServeReplica:{application}:"):
            resident_mb, _ = memory_mb([process])
            return int(resident_mb * 1e6)
    raise ServeError(f"no replica of '{application}' runs")


def _rows(figures: Figures) -> list[tuple[str, str]]:
    return [
        ("models in the pool", str(figures.models)),
        ("until all answer", f"{figures.start_s:.1f} s"),
        ("memory of the pool's replica", f"{figures.pool_bytes / 1e6:,.0f} MB"),
        ("memory of a replica of one", f"{figures.alone_bytes / 1e6:,.0f} MB"),
        ("all in turn", f"{figures.in_turn_per_s:,.0f} req/s"),
        ("one of the pool alone", f"{figures.one_of_pool_per_s:,.0f} req/s"),
        ("one in a replica of its own", f"{figures.alone_per_s:,.0f} req/s"),
        ("in turn, of one by itself", f"{figures.in_turn_per_s / figures.alone_per_s:.0%}"),
        ("a quiet one beside the others, median", f"{figures.quiet_p50_ms:.1f} ms"),
        ("a quiet one beside the others, p99", f"{figures.quiet_p99_ms:.1f} ms"),
        ("the others, p99", f"{figures.noisy_p99_ms:.1f} ms"),
    ]


if __name__ == "__main__":
    run(bench)
