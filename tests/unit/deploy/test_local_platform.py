"""What surrounds Ray on this machine; tests/integration starts it for real."""

import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve.config.schema import Config
from serve.deploy import local_platform
from serve.deploy.local_platform import LocalPlatform, open_files, require_free
from serve.errors import ConfigError
from tests.integration.conftest import free_port


def test_a_port_that_is_taken_is_named_by_its_key():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port {port} \(ports.dashboard\) is taken"):
            require_free({"http.port": free_port(), "ports.dashboard": port})
    require_free({"ports.dashboard": port})


def test_a_platform_whose_port_is_taken_starts_nothing_and_leaves_nothing():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"metrics": free_port(), "dashboard": free_port()}
        tree = {"http": {"port": taken.getsockname()[1]}, "ports": ports}
        platform = LocalPlatform(Config.model_validate(tree))
        with pytest.raises(ConfigError, match=r"http\.port"), platform:
            platform.start()
        assert platform._folder is None


def test_a_platform_that_was_not_started_can_be_stopped():
    LocalPlatform(Config()).stop()


def test_haproxys_page_of_metrics_is_there_only_with_haproxy():
    assert LocalPlatform(Config()).haproxy_metrics_port is not None
    without = Config.model_validate({"http": {"haproxy": False}})
    assert LocalPlatform(without).haproxy_metrics_port is None


def test_two_platforms_share_no_file_of_haproxy(tmp_path):
    one, other = (local_platform._haproxy_files(tmp_path / name, 1) for name in ("one", "other"))
    paths = {key for key, value in one.items() if value.startswith("/")}
    assert paths
    assert all(one[key] != other[key] for key in paths)
    assert all(Path(one[key]).is_relative_to(tmp_path / "one") for key in paths)


def test_the_limit_of_open_files_is_raised_as_far_as_it_may():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, 256)
    script = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({lower}, {hard}))\n"
        "from serve.deploy.local_platform import open_files\n"
        "print(open_files(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(hard), str(hard)]
    assert open_files() == hard


def test_all_replicas_that_may_come_are_given_cpus():
    models = [
        {"name": "a", "autoscaling": {"max_replicas": 3}, "ray_actor_options": {"num_cpus": 2}},
        {"name": "b", "ray_actor_options": {"num_cpus": 0.5}},
    ]
    config = Config.model_validate({"models": models})
    assert local_platform._cpus_wanted(config) >= 3 * 2 + 0.5 + 1


def test_an_haproxy_that_nobody_knows_of_is_ended_by_its_folder(tmp_path, eventually):
    """A shell stands in: only the command line counts."""
    mine, others = tmp_path / "mine", tmp_path / "others"

    def start(folder):
        command = ["/somewhere/haproxy", "-c", f"read line # {folder}"]
        return subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE)

    with start(mine) as first, start(others) as second:
        eventually(lambda: str(mine) in Path(f"/proc/{first.pid}/cmdline").read_text())
        local_platform._end_haproxy(mine)
        assert first.wait(30) == -signal.SIGTERM
        assert second.poll() is None
        second.kill()
