"""Which of the machine's cores a process of ours may use."""

import os
from contextlib import suppress
from pathlib import Path

from bench.peers.processes import command_of, descendants


def set_apart(named: str) -> None:
    """Give a process of ours its own core, the first, and us and our others the rest of them."""
    first, *rest = sorted(os.sched_getaffinity(0))
    for pid in (os.getpid(), *(process.pid for process in descendants(os.getpid()))):
        cores = [first] if named in command_of(pid) else rest
        with suppress(OSError):  # it has ended
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)
