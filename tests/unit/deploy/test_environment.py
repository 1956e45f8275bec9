import mmap
import os
import sys
from pathlib import Path

import pytest
import ray
import requests

from serve.config.schema import Http
from serve.deploy import local_platform
from serve.deploy.environment import connections_allowed, ray_environment, without_proxy


def test_every_variable_is_one_that_ray_reads():
    """A name that Ray has given up would do nothing, and nobody would be told."""
    every = {
        **ray_environment(Http(), 65536),
        **ray_environment(Http(haproxy=False), 65536),
        **local_platform._REPLICA_GOES,
    }
    rays = Path(ray.__file__).parent
    folders = ("serve/_private", "_private", "_common")
    sources = [path.read_text() for each in folders for path in (rays / each).rglob("*.py")]
    with (
        (rays / "core/src/ray/raylet/raylet").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raylet,
    ):
        unknown = {
            name
            for name in every
            if name.startswith("RAY_")
            if not any(f'"{name}"' in source for source in sources)
            if name.startswith("RAY_SERVE_") or raylet.find(name.removeprefix("RAY_").encode()) < 0
        }
    assert unknown == set()


def test_haproxy_is_on_unless_it_is_turned_off():
    assert ray_environment(Http(), 65536)["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    without = ray_environment(Http(haproxy=False), 65536)
    assert without["RAY_SERVE_ENABLE_HA_PROXY"] == "0"
    assert without["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "0"


@pytest.mark.parametrize(("files", "connections"), [(1_000_000, 20_000), (20_000, 7_800)])
def test_connections_are_bounded_by_open_files(files, connections):
    assert connections_allowed(files) == connections
    assert ray_environment(Http(), files)["RAY_SERVE_HAPROXY_MAXCONN"] == str(connections)


def test_ray_starts_haproxy_through_the_program_that_adds_to_its_configuration():
    environment = ray_environment(Http(), 65536, Path("/somewhere/bin"))
    assert environment["RAY_SERVE_HAPROXY_BINARY_PATH"] == "/somewhere/bin/strata-haproxy"
    own = Path(ray_environment(Http(), 65536)["RAY_SERVE_HAPROXY_BINARY_PATH"])
    assert own.is_file()
    assert os.access(own, os.X_OK)
    assert own.parent == Path(sys.executable).parent


def test_connections_that_send_nothing_are_closed_when_the_configuration_says():
    environment = ray_environment(Http(idle_timeout_s=5), 65536)
    assert environment["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"] == "5"


@pytest.mark.parametrize("haproxy", [True, False])
def test_a_call_between_replicas_may_be_as_large_as_any_body(haproxy):
    environment = ray_environment(Http(haproxy=haproxy), 65536)
    assert int(environment["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"]) == 2**31 - 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "intra.net, localhost"}, "intra.net,localhost,127.0.0.1,::1"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, "a,localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_hosts_that_need_no_proxy_are_those_of_before_and_this_machine(before, after):
    assert without_proxy(before) == {"no_proxy": after, "NO_PROXY": after}


def test_a_proxy_is_asked_for_other_hosts_alone(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    for name, value in without_proxy({}).items():
        monkeypatch.setenv(name, value)
    for own in ("http://127.0.0.1:8000/v2", "http://localhost:8265", "http://[::1]:8000"):
        assert requests.utils.get_environ_proxies(own) == {}
    assert requests.utils.get_environ_proxies("http://elsewhere:8000")["http"]
