"""Run a command, and end it and all that came of it when standard input closes.

Run as `python -m bench.peers.keeper <command>...`. The measurement may end in any way, by Ctrl-C or
killed: its end closes our input. Processes whose parents have ended become our children, so that
none gets out of sight. Exits with the status of the command if that ends by itself.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

from bench.peers.processes import descendants

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.2
_GRACE_S = 30.0  # for the command itself, which may have much to put away
_GRACE_OF_REST_S = 2.0


def main() -> None:
    """Keep the command of our arguments."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    try:
        while process.poll() is None and not _is_closed(sys.stdin.fileno()):
            pass
    finally:
        _end(process)
    sys.exit(process.returncode)


def _is_closed(descriptor: int) -> bool:
    readable, _, _ = select.select([descriptor], [], [], _LOOK_S)
    return bool(readable) and not os.read(descriptor, 1024)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _GRACE_OF_REST_S
        while _signalled(number) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
    process.wait()


def _signalled(number: signal.Signals) -> bool:
    """Send a signal to all that came of us; return False if there was no one."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:  # those that have ended and wait to be asked
            pass
    rest = descendants(os.getpid())
    for each in rest:
        with suppress(ProcessLookupError):
            os.kill(each.pid, number)
    return bool(rest)


if __name__ == "__main__":
    main()
