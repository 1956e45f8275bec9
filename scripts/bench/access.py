"""What keys and quotas cost: one platform with and without them, taking turns.

In each round the same load goes to the platform without `access`, with keys and quotas of requests
that nobody comes near, and without again. The ratio is of the rates, with over the mean of the two
without; AGAIN is the second of the two over the first, which shows how much chance does. CPU is of
all processes of the platform, and of HAProxy, by request.

The replica has a core of its own, unless `--together`: where it shares its core with the client,
what HAProxy takes is taken from all of them.

Run as `scripts/bench/run access`; figures are in docs/performance.md.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import requests
import typer

from bench.command import Together, run
from bench.cores import set_apart
from bench.load import Body, Measured, measure
from bench.peers.processes import cpu_between, snapshot
from bench.workload import MODEL, blank_images, platform_config, v2_binary
from serve.cli.printing import out, print_table
from serve.config.schema import Config
from serve.deploy.applications import deploy_config
from serve.deploy.edge_settings import with_edge_settings
from serve.deploy.local_platform import LocalPlatform
from serve.edge.keys import dump_keys, new_key, new_secret
from serve.errors import ServeError

_CONNECTIONS = (1, 16, 64)
_TIMEOUT_S = 120.0
_MANY = 1_000_000


@dataclass(frozen=True)
class Turn:
    """One measurement, and the microseconds of CPU that a request took, of all and of HAProxy."""

    measured: Measured
    cpu_us: float
    haproxy_us: float


def bench(
    rounds: Annotated[int, typer.Option(help="Rounds; the median is printed.")] = 5,
    seconds: Annotated[int, typer.Option(help="Seconds of load in each turn.")] = 5,
    others: Annotated[int, typer.Option(help="Keys in the file besides the one used.")] = 1000,
    together: Together = False,
) -> None:
    """Measure a platform with and without keys and quotas."""
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as folder:
        secret = new_secret()
        keys = Path(folder) / "keys.json"
        more = [new_key(new_secret(), f"tenant-{number}") for number in range(others)]
        keys.write_text(dump_keys([new_key(secret, "web", models=[MODEL]), *more]))
        without = platform_config(Path("models").resolve())
        with_access = _with_access(without, keys)
        with LocalPlatform(without) as platform:
            platform.start(lambda line: out.print(f"[dim]{line}[/dim]"))
            platform.wait_ready(_TIMEOUT_S)
            platform.require_ingress()
            if not together:
                set_apart(f"ServeReplica:{MODEL}:")
            rows = [
                _row(_Site(platform, without, with_access, secret), number, rounds, seconds)
                for number in _CONNECTIONS
            ]
    columns = ("CONNECTIONS", "REQ/S WITHOUT", "WITH", "RATIO", "AGAIN", "P50 MS WITHOUT", "WITH")
    print_table((*columns, "CPU US WITHOUT", "WITH", "HAPROXY US WITHOUT", "WITH"), rows)


def _with_access(config: Config, keys: Path) -> Config:
    quotas = [
        {"requests_per_s": _MANY, "concurrent_requests": _MANY},
        {"tenant": "web", "model": MODEL, "requests_per_s": _MANY},
    ]
    tree = config.model_dump(mode="json")
    return Config.model_validate({**tree, "access": {"keys": str(keys), "quotas": quotas}})


class _Site:
    """A platform that is told to ask for keys, or not to."""

    def __init__(
        self, platform: LocalPlatform, without: Config, with_access: Config, secret: str
    ) -> None:
        self._platform = platform
        self._configs = {False: without, True: with_access}
        self._secret = secret
        port = without.http.port
        self._url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/infer"
        self._body: Body = v2_binary(blank_images(1))

    def turn(self, connections: int, seconds: int, *, has_access: bool) -> Turn:
        """Measure it as it is to be; the client sends its key in any case."""
        self._be(has_access=has_access)
        before = snapshot(os.getpid())
        measured = measure(self._url, [self._body], connections, seconds, api_key=self._secret)
        used = cpu_between(before, snapshot(os.getpid()))
        each_us = {name: 1e6 * seconds / measured.requests for name, seconds in used.items()}
        return Turn(measured, sum(each_us.values()), each_us["haproxy"])

    def _be(self, *, has_access: bool) -> None:
        config = self._configs[has_access]
        self._platform.api.deploy(with_edge_settings(deploy_config(config), config))
        deadline = time.monotonic() + _TIMEOUT_S
        steady = 0
        while steady < 5:  # an old HAProxy may still take connections for a moment
            steady = steady + 1 if self._asks_for_keys() == has_access else 0
            if time.monotonic() > deadline:
                raise ServeError("the platform did not take the change")
            time.sleep(0.2)

    def _asks_for_keys(self) -> bool:
        return requests.post(self._url, timeout=10).status_code == 401


def _row(site: _Site, connections: int, rounds: int, seconds: int) -> tuple[str, ...]:
    turns = [
        [site.turn(connections, seconds, has_access=has) for has in (False, True, False)]
        for _ in range(rounds)
    ]
    without = [(first, last) for first, _, last in turns]
    with_access = [middle for _, middle, _ in turns]
    ratios = [
        2 * w.measured.requests_per_s / (a.measured.requests_per_s + b.measured.requests_per_s)
        for w, (a, b) in zip(with_access, without, strict=True)
    ]
    again = [b.measured.requests_per_s / a.measured.requests_per_s for a, b in without]
    flat = [each for pair in without for each in pair]
    sides = [flat, with_access]
    return (
        str(connections),
        *(f"{_median(each.measured.requests_per_s for each in side):.0f}" for side in sides),
        f"{_median(ratios):.3f}",
        f"{_median(again):.3f}",
        *(f"{_median(each.measured.median_ms for each in side):.3f}" for side in sides),
        *(f"{_median(each.cpu_us for each in side):.0f}" for side in sides),
        *(f"{_median(each.haproxy_us for each in side):.1f}" for side in sides),
    )


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    run(bench)
