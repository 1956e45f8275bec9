"""What the system says of processes."""

from pathlib import Path


def has_ended(pid):
    """Tell whether a process has ended, waited for by its parent or not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"
