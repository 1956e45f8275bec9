"""What a platform takes is read from its processes; here they are a shell's."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from bench.peers.processes import descendants
from reliability import samples
from reliability.samples import sample

from tests.loopback import serving
from tests.ports import free_port


@pytest.fixture
def platform(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "big").write_bytes(bytes(4_000_000))
    (tmp_path / "up.log").write_bytes(bytes(1_000_000))
    session = tmp_path / "ray" / "session_2026"
    (session / "logs").mkdir(parents=True)
    (session / "logs" / "raylet.out").write_bytes(bytes(2_000_000))
    command = [sys.executable, "-c", "input()", f"--log_dir={session}/logs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        me = next(each for each in descendants(_parent()) if each.pid == process.pid)
        yield SimpleNamespace(
            folder=tmp_path, metrics_port=free_port(), processes=lambda: {"raylet": [me]}
        )


def _parent():
    import os

    return os.getpid()


def test_memory_and_files_are_told_by_what_a_process_is(platform):
    figures = sample(platform)
    assert figures["memory MB: raylet"] > 1
    assert figures["open files: raylet"] >= 3
    assert figures["processes: raylet"] == 1


def test_models_are_no_litter_and_logs_are_told_apart(platform):
    figures = sample(platform)
    assert figures["disk MB: Ray's logs"] == pytest.approx(2, abs=0.1)
    assert figures["disk MB: Ray's other files"] == pytest.approx(0, abs=0.1)
    assert figures["disk MB: temporary files"] == pytest.approx(1, abs=0.1)


def test_the_page_of_metrics_is_measured_if_it_is_there(platform):
    assert not any(name.startswith("metrics") for name in sample(platform))
    page = b'# HELP a b\na{x="1"} 2\nb 3\n'
    with serving(lambda asked: (200, page)) as port:
        platform.metrics_port = port
        figures = sample(platform)
    assert figures["metrics: series"] == 2
    assert figures["metrics: kB of the page"] == len(page) / 1e3


def test_every_role_has_a_name_of_its_own():
    assert len(set(samples.ROLES.values())) == len(samples.ROLES)
