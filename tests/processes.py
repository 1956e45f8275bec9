"""What the system says of processes."""

from contextlib import suppress
from pathlib import Path


def has_ended(pid):
    """Tell whether a process has ended, waited for by its parent or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def command_of(pid):
    """Return the words of a process' command; none where it has ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    return []


def parent_of(pid):
    """Return the process that has started one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def descendants_of(parent):
    """Return the processes below one."""
    found, waiting = set(), [parent]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            with suppress(OSError):
                children = {int(child) for child in task.read_text().split()}
                waiting += children - found
                found |= children
    return found
