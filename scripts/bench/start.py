"""What a start of the platform costs: seconds, CPU and memory, by process.

Run as `scripts/bench/run start [--config FILE]`; figures are in docs/performance.md. CPU seconds
bend least with what else the machine does; memory is the share of each process (PSS), a while
after the start, when what ran for it alone has gone. `--replica` also has a second replica of
digits start while the first one is under load.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Annotated

import requests
import typer

from bench.command import run
from bench.load import measure
from bench.peers.processes import command_of, descendants, memory_mb, name_of
from bench.workload import MODEL, blank_images, v2_binary
from serve.cli.printing import out, print_table
from serve.config.file import load
from serve.config.schema import Config
from serve.deploy.ray_api import RayServeApi
from serve.errors import ServeError

_LOOK_S = 0.2
_TIMEOUT_S = 300.0
_REST_S = 8.0
_CONNECTIONS = 16
_LOAD_S = 60


@dataclass
class Start:
    """What was seen of a start; seconds count from the command on."""

    said: list[tuple[float, str]] = field(default_factory=list)
    answered: dict[str, float] = field(default_factory=dict)  # by model
    ready_s: float = 0.0
    cpu_s: dict[tuple[int, int], float] = field(default_factory=dict)  # by process id and start
    names: dict[tuple[int, int], str] = field(default_factory=dict)
    cpu_ready_s: float = 0.0
    pss_mb: dict[str, float] = field(default_factory=dict)
    replica_s: float | None = None  # a second replica under load, from being asked for

    def look(self, root: int) -> None:
        """Note the CPU time of every process that comes of another one."""
        for process in descendants(root):
            key = process.pid, process.started
            self.cpu_s[key] = process.cpu_s
            if name := command_of(process.pid):
                self.names[key] = name_of(name)

    def by_name(self) -> dict[str, tuple[int, float]]:
        """Return how many processes had a name, and their CPU seconds together."""
        found: dict[str, tuple[int, float]] = {}
        for key, seconds in self.cpu_s.items():
            name = self.names.get(key, "ended")
            count, before = found.get(name, (0, 0.0))
            found[name] = count + 1, before + seconds
        return found


def bench(
    config: Annotated[Path, typer.Option("--config", "-c")] = Path("strata.yaml"),
    rounds: int = 1,
    details: bool = True,
    replica: Annotated[
        bool, typer.Option("--replica", help="Also start a second replica of digits under load.")
    ] = False,
) -> None:
    """Start the platform and tell what each second, core and megabyte went to."""
    tree = load(config)
    rows = []
    for _ in range(rounds):
        start = _measured(config, tree, replica=replica)
        if details:
            _show(start)
        first = min(start.answered.values(), default=0.0)
        rows.append(
            (
                f"{first:.1f}",
                f"{start.ready_s:.1f}",
                f"{start.cpu_ready_s:.1f}",
                f"{sum(start.pss_mb.values()):.0f}",
                str(len(start.cpu_s)),
                "-" if start.replica_s is None else f"{start.replica_s:.1f}",
            )
        )
    columns = ("FIRST ANSWER S", "READY S", "CPU S", "MEMORY MB", "PROCESSES", "NEW REPLICA S")
    print_table(columns, rows)


def _measured(config: Path, tree: Config, *, replica: bool) -> Start:
    start = Start()
    began = time.monotonic()
    with _platform(config) as (process, log):
        lines = 0
        while process.poll() is None and time.monotonic() - began < _TIMEOUT_S:
            now = time.monotonic() - began
            start.look(os.getpid())
            said = log.read_text().splitlines()
            start.said += [(now, line) for line in said[lines:]]
            lines = len(said)
            _ask(tree, start, now)
            if any("is ready" in line for line in said):
                start.ready_s = now
                start.cpu_ready_s = sum(start.cpu_s.values())
                break
            time.sleep(_LOOK_S)
        if not start.ready_s:
            raise ServeError(f"the platform did not start: {log.read_text()[-2000:]}")
        time.sleep(_REST_S)
        start.look(os.getpid())
        for each in descendants(os.getpid()):
            name = name_of(command_of(each.pid))
            start.pss_mb[name] = start.pss_mb.get(name, 0.0) + memory_mb([each])[1]
        if replica:
            start.replica_s = _new_replica_s(tree)
    return start


def _new_replica_s(tree: Config) -> float:
    """Return how long a second replica of digits takes that is asked for under load."""
    from serve.deploy.applications import deploy_config  # brings Ray

    document = tree.model_dump(mode="json")
    for model in document["models"]:
        if model["name"] == MODEL:
            model["autoscaling"] |= {"min_replicas": 2, "max_replicas": 2}
    api = RayServeApi(f"http://127.0.0.1:{tree.ports.dashboard}")
    url = f"http://127.0.0.1:{tree.http.port}/v2/models/{MODEL}/infer"
    load = (url, [v2_binary(blank_images(1))], _CONNECTIONS, _LOAD_S)
    Thread(target=measure, args=load, daemon=True).start()
    time.sleep(1)
    asked = time.monotonic()
    api.deploy(deploy_config(Config.model_validate(document)))
    while api.states()[MODEL].running_replicas < 2:
        if time.monotonic() - asked > _LOAD_S:
            raise ServeError(f"no second replica within {_LOAD_S} s")
        time.sleep(0.1)
    return time.monotonic() - asked


@contextmanager
def _platform(config: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """Start `strata up`; yield its process and the file with what it says."""
    with tempfile.TemporaryDirectory(prefix="strata-bench-") as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "serve", "up", "--config", str(config)]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            ) as process,
        ):
            try:
                yield process, log
            finally:
                process.send_signal(signal.SIGINT)


def _ask(tree: Config, start: Start, now: float) -> None:
    for served in tree.served:
        if served.name in start.answered:
            continue
        url = f"http://127.0.0.1:{tree.http.port}/v2/models/{served.name}/ready"
        try:
            if requests.get(url, timeout=0.2).ok:
                start.answered[served.name] = now
        except requests.RequestException:
            return


def _show(start: Start) -> None:
    for seconds, line in start.said:
        if line:
            out.print(f"{seconds:6.1f} s  {line[:100]}", markup=False)
    for name, seconds in sorted(start.answered.items(), key=lambda item: item[1]):
        out.print(f"{seconds:6.1f} s  {name} is ready", markup=False)
    names = start.by_name()
    rows = [
        (name, str(count), f"{cpu_s:.1f}", f"{start.pss_mb.get(name, 0.0):.0f}")
        for name, (count, cpu_s) in sorted(names.items(), key=lambda item: -item[1][1])
    ]
    print_table(("PROCESS", "EVER", "CPU S", "MEMORY MB"), rows)


if __name__ == "__main__":
    run(bench)
