"""`scripts/bench/run overload`: what a replica lets in at twice the load that it can bear.

The load that it bears is what it answers to some clients who wait for their responses. Then it gets
four fifths of that, and twice of it, by clients who do not wait; both take turns. What counts is by
how much those who are let in wait longer, and how soon the others know.

The replica has a core of its own, unless `--together`: a loader and an HAProxy that want its core
more the more they send would be measured with it.
"""

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from bench.command import Together, run, save
from bench.cores import set_apart
from bench.open_load import Sent, send
from bench.workload import PORTS, blank_images, v2_binary
from serve.cli.printing import err, print_table
from serve.config.file import load
from serve.config.schema import Config

_WAITING = 32  # clients by whom the load is found that it bears
_CALM, _BUSY = 0.8, 2.0
# What is promised.
_MOST_LONGER, _MOST_REFUSAL_MS = 1.5, 10.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of the rounds: requests a second, milliseconds, and the ratio of the rounds."""

    bears_per_s: float
    calm_p50_ms: float
    calm_p99_ms: float
    calm_refused: float
    busy_per_s: float
    busy_p50_ms: float
    busy_p99_ms: float
    refused_per_s: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    longer: float
    other_statuses: tuple[int, ...]


def bench(
    model: Annotated[str, typer.Option(help="Model of images of digits.")] = "digits-large",
    seconds: Annotated[int, typer.Option(min=2, help="Seconds of load for each turn.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each load.")] = 3,
    together: Together = False,
    connections: Annotated[int, typer.Option(min=64, help="Connections of the load.")] = 512,
    config: Annotated[Path, typer.Option(help="File of the repository that has the model.")] = Path(
        "strata.yaml"
    ),
    output: Annotated[Path, typer.Option(help="Where the figures are kept.")] = Path(
        "bench-results/overload.json"
    ),
) -> None:
    """Measure what an overloaded replica lets in, and how soon it refuses the rest."""
    from serve.deploy.local_platform import LocalPlatform

    platform_config = overload_config(Path(load(config).repository.root), model)
    with LocalPlatform(platform_config) as platform:
        platform.start()
        platform.wait_ready(600)
        platform.require_ingress()
        if not together:
            set_apart(f"ServeReplica:{model}:")
        url = f"http://127.0.0.1:{PORTS['http']}/v2/models/{model}/infer"
        figures = asyncio.run(_measured(url, seconds, rounds, connections))
    print_table(("FIGURE", "", "MUST"), rows(figures))
    save(asdict(figures), output)


def overload_config(repository: Path, model: str) -> Config:
    """Return the config of a platform that serves one model of a repository."""
    return Config.model_validate(
        {
            "repository": {"root": str(repository), "try_engines": False},
            "http": {"port": PORTS["http"]},
            "ports": {"metrics": PORTS["metrics"], "dashboard": PORTS["dashboard"]},
            "models": [{"name": model, "limits": {"max_queue_wait_s": 0.25}}],
        }
    )


async def _measured(url: str, seconds: int, rounds: int, connections: int) -> Figures:
    body = v2_binary(blank_images(1))
    err.print(f"what it bears: {_WAITING} clients who wait")
    bears: list[float] = []
    calm: list[Sent] = []
    busy: list[Sent] = []
    for _ in range(rounds):  # the machine may be shared, so what it bears changes
        bears.append((await send(url, body, _WAITING, seconds)).per_s(200))
        for load_factor, turns in ((_CALM, calm), (_BUSY, busy)):
            rate = load_factor * bears[-1]
            err.print(f"{load_factor:.0%} of {bears[-1]:,.0f}/s: {rate:,.0f}/s")
            turns.append(await send(url, body, connections, seconds, rate))
    return figures_of(bears, calm, busy)


def figures_of(bears: list[float], calm: list[Sent], busy: list[Sent]) -> Figures:
    """Return the medians over the rounds of what they bore, and of either load."""
    refused = [each.per_s(429) + each.per_s(503) for each in busy]
    calm_p99_ms = [each.percentile_ms(200, 99) for each in calm]
    busy_p99_ms = [each.percentile_ms(200, 99) for each in busy]
    statuses = {status for each in (*calm, *busy) for status in each.latencies_ms}
    return Figures(
        bears_per_s=median(bears),
        calm_p50_ms=median(each.percentile_ms(200, 50) for each in calm),
        calm_p99_ms=median(calm_p99_ms),
        calm_refused=median(each.per_s(429) / max(each.per_s(200), 1e-9) for each in calm),
        busy_per_s=median(each.per_s(200) for each in busy),
        busy_p50_ms=median(each.percentile_ms(200, 50) for each in busy),
        busy_p99_ms=median(busy_p99_ms),
        refused_per_s=median(refused),
        refusal_p50_ms=median(each.percentile_ms(429, 50) for each in busy),
        refusal_p99_ms=median(each.percentile_ms(429, 99) for each in busy),
        longer=median(b / c for b, c in zip(busy_p99_ms, calm_p99_ms, strict=True)),
        other_statuses=tuple(sorted(statuses - {200, 429, 503})),
    )


def rows(figures: Figures) -> list[tuple[str, str, str]]:
    """Return the table that is printed: what, how much, and what must be."""
    f = figures
    return [
        ("it bears", f"{f.bears_per_s:,.0f} req/s", ""),
        ("at 80 %: p50 / p99", f"{f.calm_p50_ms:.1f} / {f.calm_p99_ms:.1f} ms", ""),
        ("at 80 %: refused", f"{f.calm_refused:.2%}", ""),
        ("at 200 %: let in", f"{f.busy_per_s:,.0f} req/s", ""),
        ("at 200 %: p50 / p99", f"{f.busy_p50_ms:.1f} / {f.busy_p99_ms:.1f} ms", ""),
        ("p99 over that at 80 %", f"{f.longer:.2f}", f"<= {_MOST_LONGER}"),
        ("at 200 %: refused", f"{f.refused_per_s:,.0f} req/s", ""),
        (
            "a refusal: p50 / p99",
            f"{f.refusal_p50_ms:.1f} / {f.refusal_p99_ms:.1f} ms",
            f"< {_MOST_REFUSAL_MS:.0f} ms",
        ),
        ("other statuses", ", ".join(map(str, f.other_statuses)) or "none", "none"),
    ]


if __name__ == "__main__":
    run(bench)
