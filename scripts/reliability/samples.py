"""What a platform takes at a moment: memory, open files, the page of metrics, disk."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import requests
from bench.peers.processes import Process, command_of, memory_mb

from reliability.local import HOST, Local

# By what they are; the rest of a platform's processes is told together.
ROLES = {
    "replica:digits": "replicas of digits",
    "replica:digits-tensorflow": "replica of digits-tensorflow",
    "replica:digits-layered": "replica of digits-layered",
    "replica:pool-shared": "replica of the pool",
    "gateway": "gateway",
    "controller": "Serve's controller",
    "HAProxyManager": "HAProxy's manager",
    "haproxy": "HAProxy",
    "gcs_server": "GCS",
    "raylet": "raylet",
    "dashboard": "Ray's control API",
    "dashboard agent": "Ray's agent",
}
OTHERS = "other processes"
_PROC = Path("/proc")


def sample(platform: Local) -> dict[str, float]:
    """Return figures by name: `memory MB: ...`, `open files: ...`, `metrics: ...`, `disk MB: ...`.

    Memory is each process's share (PSS); what several have in common is told once.
    """
    figures: dict[str, float] = {}
    for name, processes in _by_name(platform).items():
        figures[f"memory MB: {name}"] = memory_mb(processes)[1]
        figures[f"open files: {name}"] = sum(_open_files(each.pid) for each in processes)
        figures[f"processes: {name}"] = len(processes)
    return figures | _metrics(platform) | _disk(platform)


def _by_name(platform: Local) -> dict[str, list[Process]]:
    found: dict[str, list[Process]] = {}
    for role, processes in platform.processes().items():
        found.setdefault(ROLES.get(role, OTHERS), []).extend(processes)
    return found


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(_PROC / str(pid) / "fd"))
    except OSError:  # it has ended meanwhile
        return 0


def _metrics(platform: Local) -> dict[str, float]:
    try:
        page = requests.get(f"http://{HOST}:{platform.metrics_port}/metrics", timeout=30).content
    except requests.RequestException:
        return {}
    series = sum(bool(line) and not line.startswith(b"#") for line in page.splitlines())
    return {"metrics: kB of the page": len(page) / 1e3, "metrics: series": series}


def _disk(platform: Local) -> dict[str, float]:
    session = _session(platform)
    figures = {"disk MB: temporary files": _size_mb(platform.folder, {"models", "ray"})}
    if session is not None:
        figures["disk MB: Ray's logs"] = _size_mb(session / "logs", set())
        figures["disk MB: Ray's other files"] = _size_mb(session, {"logs"})
    return figures


def _session(platform: Local) -> Path | None:
    """Return the folder of Ray's session, which its processes have in their commands."""
    for each in platform.processes().get("raylet", ()):
        for word in command_of(each.pid).replace("=", " ").split():
            parts = Path(word).parts
            if at := next((i for i, part in enumerate(parts) if part.startswith("session_")), 0):
                return Path(*parts[: at + 1])
    return None


def _size_mb(folder: Path, without: Iterable[str]) -> float:
    total = 0
    for here, folders, files in os.walk(folder):
        if Path(here) == folder:
            folders[:] = [each for each in folders if each not in without]
        for file in files:
            with suppress(OSError):
                total += os.lstat(os.path.join(here, file)).st_blocks * 512
    return total / 1e6
