"""Ctrl-C ends a wait, and never one that hangs."""

import subprocess
import sys

import pytest

from serve.cli.stop_signal import StopSignal

# Another process sends signals all the time; many come inside of the wait, or of the handler.
_MANY = """
import os, signal, subprocess, sys
from serve.cli.stop_signal import StopSignal
stop = StopSignal()
stop.listen()
assert not stop.wait(0.01)
send = "import os, sys, time\\nwhile True: os.kill(int(sys.argv[1]), 15); time.sleep(2e-5)"
with subprocess.Popen([sys.executable, "-c", send, str(os.getpid())]) as sender:
    for _ in range(2000):
        stop.is_set = False
        while not stop.wait(10):
            pass
    sender.kill()
assert stop.is_set and stop.wait(10)
print("it goes on")
"""


def test_a_signal_is_taken_at_any_moment_of_the_wait():
    done = subprocess.run(
        [sys.executable, "-c", _MANY], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout, done.stderr) == ("it goes on\n", "")


def test_who_goes_on_only_without_one_is_told():
    stop = StopSignal()
    stop.require_none()
    stop.is_set = True
    with pytest.raises(KeyboardInterrupt):
        stop.require_none()
