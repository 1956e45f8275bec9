"""A process of somebody's code within bounds of time and memory: it ends, whatever it does."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PERIOD_S = 0.1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LAST_WORDS = 2_000  # characters of what it wrote to stderr
_PAGE = os.sysconf("SC_PAGE_SIZE")


# What this machine has free, and what the container has that this process is in.
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_UNKNOWN_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds and bytes that a process may take; with `nice` it only has what others leave."""

    seconds: float
    memory_bytes: int
    nice: bool = False


def end_with_parent() -> None:
    """Have this process killed when the one ends that started it; Linux alone can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_bytes() -> int:
    """Return the bytes of memory that processes may still take here, a guess if nobody tells."""
    return min(_free_of_machine(), _free_of_container())


def _free_of_machine() -> int:
    try:
        lines = _MEMINFO.read_text().splitlines()
        free = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(free.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return _UNKNOWN_BYTES


def _free_of_container() -> int:
    try:
        limit = int((_CGROUP / "memory.max").read_text())  # "max" where there is none
        taken = int((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        files = next((line for line in lines if line.startswith("inactive_file ")), "x 0")
        return max(limit - taken + int(files.split()[1]), 0)
    except (OSError, ValueError):
        return sys.maxsize


def run(command: Sequence[str], bounds: Bounds, log: Path) -> str:
    """Run a command and return what went wrong in words, empty if it ended well."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONFAULTHANDLER": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
        if bounds.nice:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 19)
        try:
            problem = _watch(process, bounds)
        finally:
            _end(process)
    if problem or process.returncode == 0:
        return problem
    if process.returncode < 0:
        return f"it was ended by {signal.Signals(-process.returncode).name}"
    return _last_words(log) or f"it ended with status {process.returncode}"


def _watch(process: "subprocess.Popen[bytes]", bounds: Bounds) -> str:
    deadline = time.monotonic() + bounds.seconds
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PERIOD_S)
            return ""
        if time.monotonic() > deadline:
            return f"it had not ended after {bounds.seconds:.0f} s"
        if _memory_bytes(process.pid) > bounds.memory_bytes:
            return f"it took more than {bounds.memory_bytes / 2**30:.1f} GiB of memory"


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _memory_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):  # it has just ended
        return 0


def _last_words(log: Path) -> str:
    """Return the last line that says something: an exception's, in Python."""
    text = log.read_bytes()[-_LAST_WORDS:].decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
