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
from urllib.parse import urlsplit

from serve.errors import ServeError

_SCRIPT = Path(__file__).with_name("post.lua")
_LOOPBACK = ("127.0.0.1", "localhost")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Body:
    """A request body, and the length of its JSON part if raw data follows it."""

    data: bytes
    json_length: int | None = None
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests answered a second, their latency in milliseconds, and how many they were."""

    requests_per_s: float
    median_ms: float
    p99_ms: float
    requests: int


def require_loopback(url: str) -> None:
    """Raise ServeError unless a URL is `http` and names this machine and a port, and no user."""
    try:
        parts = urlsplit(url)
        is_here = parts.hostname in _LOOPBACK and parts.port is not None
    except ValueError:  # a port that is no number, half an IPv6 address
        is_here = False
    if not is_here or parts.scheme != "http" or "@" in parts.netloc:
        raise ServeError(f"load goes to this machine only, http://127.0.0.1:PORT, not to {url}")


def measure(
    url: str,
    bodies: Sequence[Body],
    connections: int,
    seconds: int,
    paths: Sequence[str] = (),
    api_key: str | None = None,
) -> Measured:
    """Post bodies in turn over `connections` connections; they differ in their data alone.

    They go to the URL, or in turn to the `paths` of its server where there are any, with an API key
    if one is given. Raises ServeError for a URL that is not on this machine, and if any request
    fails: with a status of 400 or above, in its connection, or by taking longer than 30 seconds.
    """
    require_loopback(url)
    if seconds < 1 or not float(seconds).is_integer():
        raise ServeError(f"wrk measures for whole seconds, one at least, not for {seconds}")
    wrk = shutil.which("wrk")
    if wrk is None:
        raise ServeError("wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(index) for index in range(len(bodies))]
        for file, body in zip(files, bodies, strict=True):
            file.write_bytes(body.data)
        environment = {**os.environ, "BODIES": ":".join(map(str, files))}
        environment["CONTENT_TYPE"] = bodies[0].content_type
        if api_key is not None:
            environment["API_KEY"] = api_key
        if paths:
            environment["PATHS"] = ":".join(paths)
        if bodies[0].json_length is not None:
            environment["JSON_LENGTH"] = str(bodies[0].json_length)
        command = [wrk, "-t1", f"-c{connections}", f"-d{int(seconds)}s", "--timeout", "30s"]
        command += ["--latency", "-s", str(_SCRIPT), url]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise ServeError(
            f"wrk could not measure {url}: {said or f'it ended with {done.returncode}'}"
        )
    return _parse(done.stdout)


def _parse(report: str) -> Measured:
    if "Non-2xx" in report or "Socket errors" in report:
        raise ServeError(f"some requests failed:\n{report}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    median = re.search(r"50%\s+([\d.]+)(us|ms|s)", report)
    slowest = re.search(r"99%\s+([\d.]+)(us|ms|s)", report)
    requests = re.search(r"(\d+) requests in", report)
    if rate is None or median is None or slowest is None or requests is None:
        raise ServeError(f"wrk said something unexpected:\n{report}")
    if not int(requests[1]):
        raise ServeError("no request was answered while it was measured; measure for more seconds")
    return Measured(float(rate[1]), _ms(median), _ms(slowest), int(requests[1]))


def _ms(match: re.Match[str]) -> float:
    return float(match[1]) * _UNITS[match[2]]
