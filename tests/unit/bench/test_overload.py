import os
import subprocess
import sys
from contextlib import suppress

import pytest
from bench.open_load import Sent
from bench.overload import figures_of, overload_config, rows, set_apart


def test_the_platform_serves_one_model(tmp_path):
    config = overload_config(tmp_path, "digits-large")
    assert [model.name for model in config.models] == ["digits-large"]
    assert config.models[0].limits.max_queue_wait_s is not None


def test_figures_are_medians_and_the_ratio_is_of_each_round():
    calm = [Sent(1.0, {200: [ms]}) for ms in (10.0, 20.0, 40.0)]
    busy = [Sent(1.0, {200: [1.5 * ms], 429: [2.0, 4.0], 503: [9.0]}) for ms in (10.0, 20.0, 40.0)]
    figures = figures_of([100.0, 300.0, 200.0], calm, busy)
    assert (figures.bears_per_s, figures.calm_p99_ms, figures.busy_p99_ms) == (200.0, 20.0, 30.0)
    assert (figures.longer, figures.refused_per_s, figures.refusal_p50_ms) == (1.5, 3.0, 3.0)
    assert figures.other_statuses == ()
    assert ("p99 over that at 80 %", "1.50", "<= 1.5") in rows(figures)


def test_other_statuses_are_told():
    figures = figures_of([1.0], [Sent(1.0, {200: [1.0]})], [Sent(1.0, {200: [1.0], 0: [1.0]})])
    assert figures.other_statuses == (0,)


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
