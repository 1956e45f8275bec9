"""`scripts/soak`: hours of half load with versions that come and replicas that die.

Samples memory, open files, the page of metrics and disk every minute, and tells of each whether it
grows, with a picture.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from bench.command import run

from reliability.chaos import SHARE, connected
from reliability.faults import CLIENTS
from reliability.load import Client
from reliability.local import Local, local
from reliability.local_faults import kill_a_replica, publish_a_version
from reliability.report import failed_text
from reliability.samples import sample
from reliability.slopes import slope_of
from serve.cli.printing import err, out, print_table
from serve.config.file import load
from serve.errors import ServeError

_COUNT_S = 10.0
_BORNE_S = 10.0
Samples = list[tuple[float, dict[str, float]]]


def bench(
    minutes: Annotated[float, typer.Option(min=1, help="How long.")] = 120.0,
    version_s: Annotated[float, typer.Option(help="Seconds between two versions.")] = 300.0,
    kill_s: Annotated[float, typer.Option(help="Seconds between two replicas killed.")] = 600.0,
    sample_s: Annotated[float, typer.Option(help="Seconds between two samples.")] = 60.0,
    share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Load, as a share of what is borne.")
    ] = SHARE,
    config: Annotated[Path, typer.Option(help="File of the repository with the models.")] = Path(
        "strata.yaml"
    ),
    output: Annotated[Path, typer.Option(help="Folder of samples and picture.")] = Path(
        "bench-results"
    ),
) -> None:
    """Load a platform for long, and tell what of it grows."""
    output.mkdir(parents=True, exist_ok=True)
    with local(Path(load(config).repository.root), output / "soak-haproxy.log") as platform:
        soak = _Soak(platform, minutes * 60, output / "soak.json")
        told = asyncio.run(soak.run(share, version_s, kill_s, sample_s))
    from reliability.picture import draw

    draw(soak.samples, output / "soak.png")
    print_table(("FIGURE", "MEAN", "AN HOUR", ""), verdicts(soak.samples))
    out.print(told)
    out.print(f"samples and picture are in {output}")
    if soak.failed:
        sys.exit(1)


def series(samples: Samples) -> dict[str, tuple[list[float], list[float]]]:
    """Return times and values by figure; a figure may be missing in a sample."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for at_s, figures in samples:
        for name, value in figures.items():
            times, values = found.setdefault(name, ([], []))
            times.append(at_s)
            values.append(value)
    return found


def verdicts(samples: Samples) -> list[tuple[str, str, str, str]]:
    """Return a row for each figure: mean, slope and its error in an hour, flat or grows."""
    rows = []
    for name, (times, values) in sorted(series(samples).items()):
        slope = slope_of(times, values)
        by = f"{slope.per_hour:+.1f} ± {slope.error:.1f}"
        rows.append((name, f"{slope.mean:,.1f}", by, slope.verdict))
    return rows


class _Soak:
    """A load with events and samples; `samples` has seconds since the start with their figures.

    They are kept in a file as they come.
    """

    def __init__(self, platform: Local, seconds: float, kept: Path) -> None:
        self.samples: Samples = []
        self.failed: Counter[str] = Counter()
        self._sent = 0
        self._platform, self._seconds, self._kept = platform, seconds, kept
        self._events: dict[str, int] = {}

    async def run(self, share: float, version_s: float, kill_s: float, sample_s: float) -> str:
        """Return what became of the requests and how many events there were."""
        platform = self._platform
        questions = await asyncio.to_thread(platform.questions)
        async with connected(platform.address, questions) as client:
            borne = await client.bears(CLIENTS, _BORNE_S)
            client.outcomes.clear()
            self._began = time.monotonic()
            async with client.sending(share * borne):
                counting = asyncio.create_task(self._count_on(client))
                await asyncio.gather(
                    self._every(sample_s, "samples", self._sample),
                    self._every(version_s, "versions", lambda: publish_a_version(platform)),
                    self._every(kill_s, "replicas killed", lambda: kill_a_replica(platform)),
                )
                counting.cancel()
            self._count(client)
        events = ", ".join(f"{count} {what}" for what, count in self._events.items())
        return (
            f"{share * borne:.0f} requests a second, {share:.0%} of {borne:.0f}: "
            f"{self._sent:,} sent, {failed_text(self.failed)} failed; {events}"
        )

    async def _count_on(self, client: Client) -> None:
        while True:
            self._count(client)
            await asyncio.sleep(_COUNT_S)

    def _count(self, client: Client) -> None:
        """Count what has become of requests, and forget them: there will be millions."""
        self._sent += len(client.outcomes)
        self.failed.update(each.failure for each in client.outcomes if each.failure)
        client.outcomes.clear()

    async def _every(self, period_s: float, what: str, do: Callable[[], None]) -> None:
        """Do something again and again, first after a period; one that fails is told."""
        for turn in range(1, sys.maxsize):
            wait = self._began + turn * period_s - time.monotonic()
            if time.monotonic() + wait > self._began + self._seconds:
                return
            await asyncio.sleep(max(wait, 0))
            try:
                await asyncio.to_thread(do)
                self._events[what] = self._events.get(what, 0) + 1
            except ServeError as error:
                err.print(f"{what}: {error}", markup=False)

    def _sample(self) -> None:
        passed_s = time.monotonic() - self._began
        self.samples.append((passed_s, sample(self._platform)))
        self._kept.write_text(json.dumps(self.samples, indent=1))
        failed = failed_text(self.failed)
        err.print(
            f"[dim]minute {passed_s / 60:.0f} of {self._seconds / 60:.0f}: {self._sent:,} sent, "
            f"{failed} failed[/dim]"
        )


if __name__ == "__main__":
    run(bench)
