"""Load over HTTP from one wrk thread, on this machine's loopback only.

Every server that is measured gets its load from here, so that all get the same.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.errors import ServeError

_SCRIPT = Path(__file__).with_name("post.lua")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Body:
    """A request body, and the length of its JSON part if raw data follows it."""

    data: bytes
    json_length: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests answered a second, and their latency in milliseconds."""

    requests_per_s: float
    median_ms: float
    p99_ms: float


def measure(url: str, bodies: Sequence[Body], connections: int, seconds: float) -> Measured:
    """Post bodies in turn over `connections` connections; their JSON parts have one length.

    Raises ServeError for a URL that is not on this machine, and if any request fails: with a
    status of 400 or above, in its connection, or by taking longer than 30 seconds.
    """
    if not url.startswith("http://127.0.0.1:"):
        raise ServeError(f"load goes to this machine only, not to {url}")
    wrk = shutil.which("wrk")
    if wrk is None:
        raise ServeError("wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / str(index) for index in range(len(bodies))]
        for path, body in zip(paths, bodies, strict=True):
            path.write_bytes(body.data)
        environment = {**os.environ, "BODIES": ":".join(map(str, paths))}
        if bodies[0].json_length is not None:
            environment["JSON_LENGTH"] = str(bodies[0].json_length)
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s"]
        command += ["--latency", "-s", str(_SCRIPT), url]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return _parse(done.stdout)


def _parse(report: str) -> Measured:
    if "Non-2xx" in report or "Socket errors" in report:
        raise ServeError(f"some requests failed:\n{report}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", report)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", report)
    if rate is None or median is None or slowest is None:
        raise ServeError(f"wrk said something unexpected:\n{report}")
    return Measured(float(rate[1]), _ms(median), _ms(slowest))


def _ms(match: re.Match[str]) -> float:
    return float(match[1]) * _UNITS[match[2]]
