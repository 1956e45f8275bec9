"""The processes of a peer, from /proc: who they are, their CPU time and their memory.

Imported by the keeper too, so nothing here is heavy.
"""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Programs by a part of their command, first match first; Ray gives its processes telling titles.
_NAMES = (
    (r"ray::ServeReplica:gateway:", "gateway"),
    (r"ray::ServeReplica:", "replica"),
    (r"ray::ServeController", "controller"),
    (r"ray-dashboard|/dashboard/dashboard\.py", "dashboard"),
    (r"/dashboard/agent\.py|DashboardAgent", "dashboard agent"),
    (r"runtime_env/agent/main\.py|RuntimeEnvAgent", "runtime env agent"),
    (r"ray::(\w+)", None),
    (r"multiprocessing\.resource_tracker", "resource tracker"),
    (r"multiprocessing[.-](?:spawn|fork)", "Python worker"),
    (r"^\S*/python[\d.]* (?:-\w+ )*-m ([\w.]+)", None),
    (r"^\S*/python[\d.]* (?:-[^c]\w* )*(?:/\S*/)?(\w[\w-]*)(?:\.py)?(?: |$)", None),
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its id, that of its parent, when it started (in ticks), and its CPU seconds."""

    pid: int
    parent: int
    started: int
    cpu_s: float


# CPU seconds of processes by id and start, which together no two processes have, with their name.
Snapshot = Mapping[tuple[int, int], tuple[str, float]]


def descendants(root: int, proc: Path = _PROC) -> list[Process]:
    """Return every process that comes of another one, itself not among them."""
    children: dict[int, list[Process]] = {}
    for process in filter(None, map(_read, proc.glob("[0-9]*"))):
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [root]
    while waiting:
        born = children.get(waiting.pop(), [])
        found += born
        waiting += [process.pid for process in born]
    return found


def _read(entry: Path) -> Process | None:
    try:
        stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it has ended meanwhile
        return None
    fields = stat.rpartition(")")[2].split()  # a name may hold spaces and brackets
    cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
    return Process(int(entry.name), int(fields[1]), int(fields[19]), cpu_s)


def snapshot(root: int, proc: Path = _PROC) -> Snapshot:
    """Return the CPU seconds that each process that comes of another one has used so far."""
    return {
        (process.pid, process.started): (name_of(command_of(process.pid, proc)), process.cpu_s)
        for process in descendants(root, proc)
    }


def cpu_between(before: Snapshot, after: Snapshot) -> dict[str, float]:
    """Return the CPU seconds between two snapshots, by name; processes of one name are summed."""
    seconds: dict[str, float] = {}
    for key, (name, cpu_s) in after.items():
        _, earlier = before.get(key, ("", 0.0))
        seconds[name] = seconds.get(name, 0.0) + cpu_s - earlier
    return seconds


def command_of(pid: int, proc: Path = _PROC) -> str:
    """Return a process's command as one line, empty for one that has ended."""
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def name_of(command: str) -> str:
    """Return what to call a process by its command: its program, or what it does for Ray."""
    for pattern, name in _NAMES:
        if match := re.search(pattern, command):
            return name or match[1]
    return Path(command.split(" ", 1)[0]).name or "ended"


def memory_mb(processes: Iterable[Process], proc: Path = _PROC) -> tuple[float, float]:
    """Return the resident memory of processes and their share of it (RSS and PSS), in MB.

    Pages that several of them hold are counted for each in RSS, once in PSS.
    """
    rss = pss = 0
    for process in processes:
        with suppress(OSError):  # it has ended meanwhile
            text = (proc / str(process.pid) / "smaps_rollup").read_text(encoding="ascii")
            rss += _kib(text, "Rss")
            pss += _kib(text, "Pss")
    return rss * 1024 / 1e6, pss * 1024 / 1e6


def _kib(smaps: str, key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB", smaps, re.MULTILINE)
    return int(match[1]) if match else 0
