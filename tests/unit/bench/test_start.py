"""A start is measured by the processes that come of it; here they are a shell's."""

import subprocess

from bench.start import Start


def test_a_process_that_has_ended_still_counts(eventually):
    start = Start()
    command = "timeout 1 yes > /dev/null; exec sleep 60"
    with subprocess.Popen(["sh", "-c", command]) as shell:

        def ended():
            before = dict(start.cpu_s)
            start.look(shell.pid)
            return "yes" in start.by_name() and before == start.cpu_s

        eventually(ended)
        shell.kill()
    count, seconds = start.by_name()["yes"]
    assert count == 1
    assert seconds > 0
