"""The end of a process that was asked to end.

Called by fork_server, monitoring and cli.training.
"""

import subprocess
from typing import Any


def wait_or_kill(process: "subprocess.Popen[Any]", timeout_s: float) -> None:
    """Return once a process has ended; it is killed if it has not by itself in so many seconds."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
