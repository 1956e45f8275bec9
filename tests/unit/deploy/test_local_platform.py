"""What surrounds Ray on this machine; tests/integration starts it for real."""

import os
import re
import resource
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import ray

from serve.config.schema import Config
from serve.deploy import local_platform
from serve.deploy.local_platform import LocalPlatform, open_files, require_free
from serve.deploy.ray_api import RayServeApi
from serve.errors import ConfigError, ModelNotReady, RepositoryError
from tests.loopback import serving
from tests.ports import free_port
from tests.unit.deploy.fakes import application


@pytest.fixture(autouse=True)
def no_ray(monkeypatch):
    """Neither is a Ray started here, nor one ended that others use."""

    def refuse(*_, **__):
        pytest.fail("this test has to do with Ray")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", refuse)


def test_a_port_that_is_taken_is_named_by_its_key():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^port {port} \(ports.dashboard\) is taken"):
            require_free({"http.port": free_port(), "ports.dashboard": port})
    require_free({"ports.dashboard": port})


def test_the_port_of_plain_http_has_to_be_free_too():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tls = {"certificate": "c", "key": "k", "redirect_port": taken.getsockname()[1]}
        ports = {"metrics": free_port(), "dashboard": free_port()}
        tree = {"http": {"port": free_port(), "tls": tls}, "ports": ports}
        with pytest.raises(ConfigError, match=r"\(http\.tls\.redirect_port\) is taken"):
            LocalPlatform(Config.model_validate(tree)).start()


@pytest.mark.parametrize("key", ["http.port", "ports.metrics", "ports.dashboard"])
def test_a_platform_whose_port_is_taken_starts_nothing_and_leaves_nothing(key):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tree = {
            "http": {"port": free_port()},
            "ports": {"metrics": free_port(), "dashboard": free_port()},
        }
        section, name = key.split(".")
        tree[section][name] = taken.getsockname()[1]
        platform = LocalPlatform(Config.model_validate(tree))
        with pytest.raises(ConfigError, match=re.escape(f"({key}) is taken")), platform:
            platform.start()
        assert platform._folder is None


def test_a_platform_that_was_not_started_stops_nothing():
    LocalPlatform(Config()).stop()
    with LocalPlatform(Config()):
        pass


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


def test_two_platforms_share_no_port_at_which_one_would_answer_for_the_other(tmp_path):
    one, other = (local_platform._haproxy_files(tmp_path / name, 1) for name in ("one", "other"))
    for protocol in ("HTTP", "GRPC"):
        key = f"RAY_SERVE_FALLBACK_PROXY_{protocol}_PORT"
        assert one[key] != other[key]


@pytest.mark.parametrize("is_long", [False, True])
def test_haproxys_sockets_have_paths_that_are_short_enough(monkeypatch, tmp_path, is_long):
    long = tmp_path / ("long" * 50)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long) if is_long else "/tmp")
    folder = local_platform._new_folder()
    try:
        assert folder.is_dir()
        assert len(str(folder / ("n" * 62) / "admin.sock")) <= 107
    finally:
        folder.rmdir()


def test_the_limit_of_open_files_is_raised_as_far_as_it_may():
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = 1024 if hard == resource.RLIM_INFINITY else hard - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        assert open_files() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_all_replicas_that_may_come_are_given_cpus():
    models = [
        {"name": "a", "autoscaling": {"max_replicas": 3}, "ray_actor_options": {"num_cpus": 2}},
        {"name": "b", "ray_actor_options": {"num_cpus": 0.5}},
    ]
    config = Config.model_validate({"models": models})
    assert local_platform._cpus_wanted(config) >= 3 * 2 + 0.5 + 1
    pipeline = {"name": "p", "kind": "sequence", "steps": [{"model": "a"}]}
    pipeline["ray_actor_options"] = {"num_cpus": 4}
    config = Config.model_validate({"models": models, "pipelines": [pipeline]})
    assert local_platform._cpus_wanted(config) >= 3 * 2 + 0.5 + 4 + 1


@pytest.fixture
def platform(dashboard):
    """A platform of one model whose dashboard is a server here."""
    ports = {"dashboard": dashboard.port}
    return LocalPlatform(Config.model_validate({"models": [{"name": "a"}], "ports": ports}))


def test_a_platform_is_ready_once_every_application_runs(platform, dashboard):
    looks = []

    def progress(states):
        looks.append({name: state.status for name, state in states.items()})
        dashboard.document["applications"]["a"] = application("RUNNING")

    dashboard.document = {"applications": {"gateway": application(), "a": application("DEPLOYING")}}
    platform.wait_ready(60, progress)
    assert looks[0] == {"gateway": "RUNNING", "a": "DEPLOYING"}
    assert looks[-1] == {"gateway": "RUNNING", "a": "RUNNING"}


@pytest.mark.parametrize("status", ["DEPLOY_FAILED", "UNHEALTHY"])
def test_a_model_that_does_not_come_up_ends_the_wait(platform, dashboard, status):
    failed = application(
        status, deployment_message="serve.errors.RepositoryError: the file is cut off"
    )
    dashboard.document = {"applications": {"gateway": application(), "a": failed}}
    with pytest.raises(RepositoryError, match="model 'a': the file is cut off"):
        platform.wait_ready(60)


def test_a_platform_that_takes_too_long_says_where_to_look(platform, dashboard):
    dashboard.document = {"applications": {"gateway": application()}}
    with pytest.raises(ModelNotReady, match=r"a \(not deployed\); see strata status"):
        platform.wait_ready(0)


@pytest.mark.parametrize("launches", [False, True])
def test_an_haproxy_that_nobody_knows_of_is_ended_by_its_folder(tmp_path, eventually, launches):
    """A shell stands in, also for the Python that will become it: the command line counts."""
    mine, others = tmp_path / "mine", tmp_path / "others"
    launcher = tmp_path / "strata-haproxy"
    launcher.write_text("read line")

    def start(folder):
        command = ["/a/haproxy", "-c", "read line", "-f", str(folder)]
        if launches:
            command = ["/a/python", str(launcher), "-f", str(folder)]
        return subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE)

    with start(mine) as first, start(others) as second:
        eventually(lambda: str(mine) in Path(f"/proc/{first.pid}/cmdline").read_text())
        local_platform._end_haproxy(mine)
        assert first.wait(30) == -signal.SIGTERM
        assert second.poll() is None
        second.kill()


def test_an_ingress_that_takes_requests_is_no_matter(dashboard):
    """The dashboard's stand-in is one for the ingress, too."""
    dashboard.document = {"anything": True}
    http = {"port": dashboard.port, "host": "0.0.0.0"}
    LocalPlatform(Config.model_validate({"http": http})).require_ingress(0)


def test_the_ingress_is_waited_for_until_it_has_heard_of_the_models_that_run():
    asked = []

    def respond(request):
        asked.append(request.path)
        is_known = request.path != "/v2/models/a/ready" or asked.count(request.path) > 1
        return (200 if is_known else 503), {}

    models = [
        {"name": "a"},
        {"name": "failed"},
        {"name": "asleep", "autoscaling": {"min_replicas": 0}},
    ]
    with serving(respond) as port:
        tree = {"http": {"port": port}, "models": models}
        LocalPlatform(Config.model_validate(tree)).require_ingress(60, failed={"failed"})
    assert asked == ["/-/healthz", "/v2/models/a/ready", "/v2/models/a/ready"]


def test_a_model_that_the_ingress_does_not_reach_in_time_is_left_alone():
    with serving(lambda asked: (200 if asked.path == "/-/healthz" else 503, {})) as port:
        tree = {"http": {"port": port}, "models": [{"name": "a"}]}
        LocalPlatform(Config.model_validate(tree)).require_ingress(0)


def test_an_ingress_that_does_not_answer_is_told_with_what_haproxy_said(tmp_path):
    platform = LocalPlatform(Config.model_validate({"http": {"port": free_port()}}))
    with pytest.raises(
        ConfigError, match=r"ingress does not answer at .*/-/healthz: see Ray's log"
    ):
        platform.require_ingress(0)
    platform._folder = tmp_path
    (tmp_path / "node").mkdir()
    log = tmp_path / "node" / "admin.sock.1.2.stderr.log"
    log.write_text("[NOTICE] hello\n[ALERT]    (7) : cannot bind socket\n[WARNING] bye\n")
    with pytest.raises(ConfigError, match=r": \[ALERT\] \(7\) : cannot bind socket$"):
        platform.require_ingress(0)
    log.write_text("strata-haproxy: there is no HAProxy\n")
    with pytest.raises(ConfigError, match=r": strata-haproxy: there is no HAProxy$"):
        platform.require_ingress(0)


def test_a_platform_whose_haproxy_would_not_start_deploys_nothing_and_ends_ray(
    monkeypatch, tmp_path
):
    done = []
    monkeypatch.setattr(os, "environ", {**os.environ, "STRATA_HAPROXY_BINARY": str(tmp_path)})
    monkeypatch.setattr(LocalPlatform, "_start_ray", lambda *_: done.append("start"))
    monkeypatch.setattr(RayServeApi, "deploy", lambda *_: done.append("deploy"))
    monkeypatch.setattr(ray, "shutdown", lambda: done.append("shutdown"))
    ports = {"metrics": free_port(), "dashboard": free_port()}
    platform = LocalPlatform(Config.model_validate({"http": {"port": free_port()}, "ports": ports}))
    with pytest.raises(ConfigError, match="STRATA_HAPROXY_BINARY names"), platform:
        platform.start()
    assert done == ["start", "shutdown"]


def _range(variables):
    return [int(value) for _, value in sorted(variables.items(), reverse=True)]


def test_replicas_of_two_platforms_have_ports_of_their_own():
    first, last = _range(local_platform._replica_ports())
    assert last - first == 999
    with socket.socket() as replica:
        replica.bind(("127.0.0.1", first + 1))
        replica.listen()
        other_first, other_last = _range(local_platform._replica_ports())
    assert other_last < first or other_first > last


def test_where_no_range_of_ports_is_free_ray_looks_for_single_ones(monkeypatch):
    monkeypatch.setattr(local_platform, "_is_free", lambda port: port % 1000 != 7)
    assert local_platform._replica_ports() == {}
