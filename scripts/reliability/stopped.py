"""Processes that stand still for a while, like those that hang."""

import os
import signal
from subprocess import Popen
from typing import Any


def stand_still(process: Popen[Any]) -> None:
    """Stop a child, until SIGCONT; it does nothing more by the time that this returns."""
    process.send_signal(signal.SIGSTOP)
    # The signal alone has it go on for as long as its threads have not heard of it.
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
