"""`scripts/bench/run large`: a model of some GB published, started and replaced, with its memory.

One dense matrix; a platform of its own on this machine. Times are what a user waits; memory is that
of one process by /proc, its resident set and the most that it ever was. While versions change one
client asks all the time: its longest wait, and answers other than 200.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import requests
import typer

from bench.command import run
from bench.peers.processes import command_of
from serve.cli.printing import err, print_table
from serve.errors import ServeError

_PORT = 18030
_URL = f"http://127.0.0.1:{_PORT}/v2/models/large"
_PORTS = {"metrics": 18031, "dashboard": 18032, "prometheus": 18033, "grafana": 18034}
_INPUTS = 1024
_LONGEST_S = 900.0
_MAKE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
path, inputs, outputs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
module = tf.Module()
module.matrix = tf.Variable(tf.random.normal([inputs, outputs], stddev=0.01))
module.serve = tf.function(
    lambda x: {"y": tf.reduce_mean(tf.matmul(x, module.matrix), 1)},
    input_signature=[tf.TensorSpec([None, inputs], tf.float32, "x")],
)
tf.saved_model.save(module, path, signatures=module.serve)
"""


@dataclass
class _Client:
    """Asks for one row all the time; `longest_s` is its longest wait, `statuses` are counted."""

    longest_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        tensor = {"name": "x", "shape": [1, _INPUTS], "datatype": "FP32", "data": [0.5] * _INPUTS}
        while not self.stop.wait(0.05):
            began = time.perf_counter()
            response = requests.post(f"{_URL}/infer", json={"inputs": [tensor]}, timeout=120)
            self.statuses[response.status_code] += 1
            self.longest_s = max(self.longest_s, time.perf_counter() - began)


def bench(
    mb: Annotated[int, typer.Option(min=1, help="Size of the matrix in MB.")] = 2100,
    folder: Annotated[
        Path | None, typer.Option(help="Where four times that finds room; left as it was.")
    ] = None,
) -> None:
    """Publish, start and replace a large model, both ways, and print times and memory."""
    place = Path(tempfile.mkdtemp(prefix="strata-large-", dir=folder))
    try:
        rows = _measured(place, mb)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print_table(("step", "seconds", "peak MB", "after MB", "longest wait s", "not 200"), rows)


def _measured(place: Path, mb: int) -> list[tuple[str, ...]]:
    model = place / "saved_model"
    err.print(f"making a SavedModel of {mb} MB in {place}")
    outputs = mb * 10**6 // 4 // _INPUTS
    subprocess.run(
        [sys.executable, "-c", _MAKE, str(model), str(_INPUTS), str(outputs)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    config = _config(place, "after_load")
    rows = [_published(config, model)]
    began = time.monotonic()
    with _platform(config):
        _until_served(1)
        ready_s = time.monotonic() - began
        replica = _replica()
        rows.append(("strata up, ready", f"{ready_s:.1f}", *_memory(replica), "", ""))
        rows.append(_replaced("after_load", config, model, replica, 2))
        config = _config(place, "before_load")
        apply = [sys.executable, "-m", "serve", "apply", "--config", str(config)]
        subprocess.run(apply, check=True, stdout=sys.stderr)
        rows.append(_replaced("before_load", config, model, replica, 3))
    return rows


def _config(place: Path, replace: str) -> Path:
    tree: dict[str, Any] = {
        "repository": {
            "root": str(place / "models"),
            "poll_interval_s": 1,
            "try_engines": False,
        },
        "http": {"port": _PORT},
        "ports": _PORTS,
        "models": [
            {
                "name": "large",
                "version_policy": {"latest": 1, "replace": replace},
                "batching": {"max_batch_size": 4},
            }
        ],
    }
    config = place / "strata.yaml"
    config.write_text(json.dumps(tree))  # JSON is YAML
    return config


def _published(config: Path, model: Path) -> tuple[str, ...]:
    command = [sys.executable, "-m", "serve", "publish", str(model), "--name", "large"]
    began = time.monotonic()
    process = subprocess.Popen([*command, "--config", str(config)], stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise ServeError("strata publish failed")
    seconds, peak = time.monotonic() - began, usage.ru_maxrss * 1024 / 1e6
    return ("strata publish", f"{seconds:.1f}", f"{peak:,.0f}", "", "", "")


@contextmanager
def _platform(config: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "serve", "up", "--config", str(config)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def _replaced(way: str, config: Path, model: Path, replica: int, version: int) -> tuple[str, ...]:
    """Publish a version, and return what the change to it took from then on."""
    _published(config, model)
    Path(f"/proc/{replica}/clear_refs").write_text("5")  # the peak begins anew
    client = _Client()
    asking = threading.Thread(target=client)
    asking.start()
    began = time.monotonic()
    try:
        _until_served(version)
        seconds = time.monotonic() - began
        time.sleep(3)  # what the old version held is given back in a thread
    finally:
        client.stop.set()
        asking.join()
    failed = sum(count for status, count in client.statuses.items() if status != 200)
    return (
        f"version {version} serves, {way}",
        f"{seconds:.1f}",
        *_memory(replica),
        f"{client.longest_s:.1f}",
        str(failed),
    )


def _replica() -> int:
    """Return the process that Ray calls the model's replica."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    found = [pid for pid in pids if "ServeReplica:large" in command_of(pid)]
    if not found:
        raise ServeError("no process of this machine is a replica of the model 'large'")
    return max(found, key=lambda pid: _status(pid, "VmRSS"))


def _until_served(version: int) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{_URL}/versions/{version}/ready", timeout=10).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)
    raise ServeError(f"version {version} does not serve after {_LONGEST_S:.0f} s")


def _memory(pid: int) -> tuple[str, str]:
    """Return the most that a process's resident set was, and what it is, in MB."""
    return f"{_status(pid, 'VmHWM'):,.0f}", f"{_status(pid, 'VmRSS'):,.0f}"


def _status(pid: int, key: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended meanwhile
        return 0.0
    found = next((line for line in lines if line.startswith(f"{key}:")), "0 0")
    return int(found.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    run(bench)
