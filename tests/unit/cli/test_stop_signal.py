"""Ctrl-C ends a wait, and never one that hangs."""

import subprocess
import sys

# Signals without a pause, while the thread that takes them waits: many come inside of the wait.
_MANY = """
import os, signal, sys, threading
from serve.cli.stop_signal import StopSignal
stop = StopSignal()
stop.listen()
assert not stop.wait(0.01)
ends = threading.Event()

def send():
    while not ends.is_set():
        os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=send, daemon=True).start()
for _ in range(500):
    stop.is_set = False
    while not stop.wait(10):
        pass
ends.set()
assert stop.is_set and stop.wait(10)
print("it goes on")
"""


def test_a_signal_is_taken_at_any_moment_of_the_wait():
    done = subprocess.run(
        [sys.executable, "-c", _MANY], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout, done.stderr) == ("it goes on\n", "")
