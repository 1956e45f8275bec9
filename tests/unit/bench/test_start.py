"""A start is measured by the processes that come of it; here they are a shell's."""

import os
import signal
import subprocess

from bench.start import Start

from tests.processes import has_ended


def test_a_process_that_has_ended_still_counts(eventually):
    start = Start()
    command = "yes > /dev/null & echo $!; wait $!; exec sleep 600"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as shell:
        yes = int(shell.stdout.readline())

        def has_run():
            start.look(shell.pid)
            return start.by_name().get("yes", (0, 0))[1] > 0

        eventually(has_run)
        os.kill(yes, signal.SIGKILL)
        eventually(lambda: has_ended(yes))
        start.look(shell.pid)
        shell.kill()
    count, seconds = start.by_name()["yes"]
    assert count == 1
    assert seconds > 0
