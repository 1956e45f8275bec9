"""A process that was asked to end has ended afterwards."""

import signal
import subprocess

import pytest

from serve.deploy.child_process import wait_or_kill


@pytest.mark.parametrize(
    ("command", "timeout_s", "code"), [("exit 3", 60, 3), ("read line", 0.1, -signal.SIGKILL)]
)
def test_one_that_does_not_end_in_time_is_killed(command, timeout_s, code):
    with subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE) as process:
        wait_or_kill(process, timeout_s)
        assert process.returncode == code
