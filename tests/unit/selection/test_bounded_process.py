"""A process of somebody's code ends, whatever it does, and it is said how."""

import os
import sys

import pytest

from serve.selection import bounded_process
from serve.selection.bounded_process import Bounds, free_bytes, run
from tests.processes import has_ended

_BOUNDS = Bounds(60.0, 2**32)


def _run(code, tmp_path, bounds=_BOUNDS):
    return run([sys.executable, "-c", code], bounds, tmp_path / "log")


def test_what_ends_well_has_no_problem(tmp_path):
    assert _run("print('a warning of no meaning')", tmp_path) == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("import os; os.abort()", "it was ended by SIGABRT"),
        ("import os; os._exit(3)", "it ended with status 3"),
        ("raise ValueError('no such operation: Foo')", "ValueError: no such operation: Foo"),
    ],
)
def test_what_crashes_or_fails_is_said(tmp_path, code, said):
    assert _run(code, tmp_path) == said


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path, eventually):
    code = (
        "import subprocess, sys, pathlib, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "signal.pause()\n"
    )
    assert _run(code, tmp_path, Bounds(30.0, 2**32)) == "it had not ended after 30 s"
    child = (tmp_path / "pid").read_text()
    eventually(lambda: has_ended(child))


def test_what_eats_memory_is_ended(tmp_path):
    code = "import signal; x = bytearray(b'1') * 300_000_000; signal.pause()"
    problem = _run(code, tmp_path, Bounds(60.0, 200 * 2**20))
    assert problem == "it took more than 0.2 GiB of memory"


def test_what_has_time_left_over_only_is_nice(tmp_path):
    code = "import os, sys; sys.exit(str(os.nice(0)))"
    assert _run(code, tmp_path) == str(os.nice(0))
    code = (
        "import os, sys, time\n"
        "until = time.monotonic() + 30\n"
        "while os.nice(0) != 19 and time.monotonic() < until: pass\n"
        "sys.exit(str(os.nice(0)))"
    )
    assert _run(code, tmp_path, Bounds(60.0, 2**32, nice=True)) == "19"


def test_the_free_memory_is_that_of_the_container_where_it_is_less(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 1000 kB\n")
    monkeypatch.setattr(bounded_process, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(bounded_process, "_CGROUP", tmp_path / "nothing")
    assert free_bytes() == 1_024_000
    for name, text in (("max", "9000"), ("current", "8000"), ("stat", "inactive_file 500\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(bounded_process, "_CGROUP", tmp_path)
    assert free_bytes() == 1500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes() == 1_024_000
