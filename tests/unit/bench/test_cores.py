import os
import subprocess
import sys
from contextlib import suppress

import pytest
from bench.cores import set_apart


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores to set apart")
def test_one_process_has_the_first_core_and_all_others_the_rest():
    cores = sorted(os.sched_getaffinity(0))
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen([*waits, "replica:m:"], stdin=subprocess.PIPE) as replica,
        subprocess.Popen([*waits, "other"], stdin=subprocess.PIPE) as other,
    ):
        try:
            set_apart("replica:m:")
            assert os.sched_getaffinity(replica.pid) == {cores[0]}
            for pid in (0, other.pid):
                assert os.sched_getaffinity(pid) == set(cores[1:])
        finally:
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), cores)
            replica.kill()
            other.kill()
