import os
import signal
import subprocess
import sys

import pytest

from tests.processes import has_ended

# A grandchild that its parent leaves behind, in a session of its own, deaf to SIGTERM.
_STUBBORN = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c",
     "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
     "print('ready', flush=True); time.sleep(600)"],
    start_new_session=True, stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
"""

_MEASUREMENT = f"""
import subprocess, sys
keeper = subprocess.Popen(
    [sys.executable, "-m", "bench.peers.keeper", sys.executable, "-c", {_STUBBORN!r}],
    stdin=subprocess.PIPE)
keeper.wait()
"""


def _keeper(program):
    return subprocess.Popen(
        [sys.executable, "-m", "bench.peers.keeper", sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "scripts"},
        text=True,
    )


@pytest.mark.parametrize("parent_goes_on", [True, False], ids=["parent lives", "parent has ended"])
def test_all_that_came_of_a_command_ends_with_the_input(parent_goes_on, eventually):
    program = _STUBBORN + ("import time; time.sleep(600)" if parent_goes_on else "")
    with _keeper(program) as keeper:
        pid = int(keeper.stdout.readline())
        keeper.stdin.close()
        eventually(lambda: has_ended(pid), timeout_s=30)


def test_a_measurement_that_is_killed_leaves_nothing(eventually):
    measurement = subprocess.Popen(
        [sys.executable, "-c", _MEASUREMENT],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "scripts"},
        text=True,
    )
    with measurement:
        pid = int(measurement.stdout.readline())
        measurement.send_signal(signal.SIGKILL)
        measurement.wait()
        eventually(lambda: has_ended(pid), timeout_s=30)


def test_a_command_that_ends_by_itself_tells_its_status():
    with _keeper("raise SystemExit(7)") as keeper:
        assert keeper.wait(30) == 7
