"""The text alone, and with every template of Ray's that is in use whether HAProxy takes it."""

import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from ray.serve._private.haproxy import ServerConfig
from ray.serve.config import HTTPOptions, gRPCOptions

from serve.edge.haproxy import configuration
from serve.edge.haproxy.access import Maps, Nodes
from serve.edge.haproxy.launcher import haproxy_binary
from serve.edge.haproxy.settings import Cors, EdgeSettings, RequestQuota, Tls
from serve.errors import ConfigError
from tests.authority import Authority
from tests.unit.edge.haproxy.rays import application, server, write

MAPS = Maps(*4 * (Path("/dev/null"),))
RAYS = """\
global
    maxconn 100
defaults
    mode http
    errorfile 503 /somewhere
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind *:8000
    acl healthcheck path /-/healthz
    default_backend default_backend
backend default_backend
    http-request return status 404
listen stats
  bind *:8404
  stats enable
"""


def with_edge(text, maps=MAPS):
    return configuration.with_edge(text, maps)


def sections(text):
    """Return the lines of each section by its header."""
    found = {}
    for line in text.splitlines():
        if re.match(r"\w", line):
            found[line] = []
        elif not line.startswith("#"):
            found[list(found)[-1]].append(line.strip())
    return found


def test_each_line_of_ray_stays_and_ours_come_to_the_sections_that_they_belong_to():
    before, after = sections(RAYS), sections(with_edge(RAYS))
    assert list(after) == list(before)
    for header in ("global", "defaults", "frontend http_frontend", "backend default_backend"):
        rest = iter(after[header])
        assert all(line in rest for line in before[header])  # in their order
        assert len(after[header]) > len(before[header])


def test_what_ray_says_of_errors_is_overridden_and_its_paths_are_taken_after_ours():
    after = sections(with_edge(RAYS))
    errors = [line for line in after["defaults"] if "503" in line]
    assert errors[0].startswith("errorfile")
    assert errors[-1].startswith("http-error status 503")
    assert after["frontend http_frontend"][0] == "bind *:8000"
    assert after["frontend http_frontend"][-2:] == [
        "acl healthcheck path /-/healthz",
        "default_backend default_backend",
    ]


def test_the_page_of_statistics_is_for_this_machine_and_metrics_are_where_a_variable_says():
    after = sections(with_edge(RAYS))
    assert "bind 127.0.0.1:8404" in after["listen stats"]
    assert 'bind "${STRATA_HAPROXY_METRICS_HOST}:9101"' in after["frontend prometheus"]


def test_a_configuration_that_has_the_lines_stays_as_it_is():
    once = with_edge(RAYS)
    assert with_edge(once) == once


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("frontend http_frontend", "frontend http", "no sections 'frontend http_frontend'"),
        ("defaults", "defaults named", "no sections 'defaults'"),
        ("    bind *:8000\n", "", "in 'frontend http_frontend'"),
        ("    bind *:8000\n", "    bind *:8000\n    bind *:8001\n", "2 lines"),
        ("  bind *:8404", "  bind 127.0.0.1:8404", "in 'listen stats'"),
        ("    bind :9101\n", "", "in 'frontend prometheus'"),
        ("    default_backend default_backend\n", "", "no choice of a backend"),
        ("    default_backend", "    use_backend m if of_m\n    default_backend", "no path of 'm'"),
        (RAYS, "", "no sections 'global'"),
    ],
)
def test_a_template_that_ray_changed_is_told_with_what_it_lacks(old, new, what):
    with pytest.raises(ConfigError, match=re.escape(what)) as refused:
        with_edge(RAYS.replace(old, new))
    assert "install the version of Ray that Strata pins" in str(refused.value)


GATEWAY = application("gateway", 1, fallback=3)
DIGITS = application("digits", 1, 2, fallback=3)
POOL = application("pool-small", 4, fallback=3)
GRPC = gRPCOptions(port=9000, grpc_servicer_functions=["serve.grpc:add"])
TEMPLATES = {
    "before anything is deployed": ((), {"has_received_routes": False}),
    "a worker without routes": ((), {"is_head": False, "has_received_servers": False}),
    "a head without applications": ((), {"is_head": True}),
    "models and the gateway": ((GATEWAY, DIGITS, application("a.b-c_1", 5)), {}),
    "a pool": ((GATEWAY, DIGITS, POOL), {}),
    "a pool without replicas": ((GATEWAY, application("pool-a.b", fallback=3)), {}),
    "no gateway": ((DIGITS,), {}),
    "a model without replicas": ((GATEWAY, application("gone", fallback=3)), {}),
    "a model without anything": ((GATEWAY, application("gone")), {}),
    "a node that drains": ((GATEWAY, DIGITS), {"pass_health_checks": False}),
    "all interfaces": ((GATEWAY,), {"http_options": HTTPOptions(host="0.0.0.0", port=80)}),
    "a line a request": ((GATEWAY, DIGITS), {"metrics_enabled": True}),
    "no state of servers": ((GATEWAY, DIGITS), {"enable_hap_optimization": False}),
    "gRPC": ((GATEWAY, DIGITS), {"grpc_options": GRPC}),
    "a router of Ray's": (
        (GATEWAY, application("llm", 1, ingress_request_router_servers=[server("router", 9)])),
        {},
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_server_of_rays_is_waited_for_that_acknowledges_nothing(name, tmp_path):
    backends, settings = TEMPLATES[name]
    rays = write(tmp_path, *backends, **settings).read_text()
    made = with_edge(rays).splitlines()
    servers = [line for line in made if line.lstrip().startswith("server ")]
    assert all(re.match(r" +server \S+ \S+:\d+ tcp-ut 10s( |$)", line) for line in servers)
    assert len(servers) == len(re.findall(r"^ +server ", rays, re.MULTILINE))


@pytest.fixture
def checked(monkeypatch):
    """Ask HAProxy about a file and return what it says."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S", "60")
    monkeypatch.setenv("STRATA_EDGE_SECRET", "secret")

    def check(path):
        command = [haproxy_binary(), "-c", "-f", str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return check


AUTHORITY = Authority()
PAIR = AUTHORITY.pair("localhost")
ONE = RequestQuota("web", None, 1, 1)
ACCESS = {
    "everybody": EdgeSettings(),
    "keys": EdgeSettings(keys=Path("/keys")),
    "quotas": EdgeSettings(quotas=(ONE,)),
    "both": EdgeSettings(keys=Path("/keys"), quotas=(ONE,), tenant_header="x-who"),
    "TLS": EdgeSettings(
        tls=Tls(Path("/crt"), Path("/key"), Path("/ca"), True, 8001, 443, 60),
        cors=Cors(tuple(f"https://app{number}.example" for number in range(100)), 600),
    ),
}
NODES = {"one node": Nodes(), "three": Nodes("10.0.0.1", ["10.0.0.2", "fd00::3"], 8990)}


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("kind", TEMPLATES)
def test_haproxy_takes_ours_as_it_takes_rays(checked, tmp_path, kind, access, nodes):
    backends, settings = TEMPLATES[kind]
    path = write(tmp_path, *backends, **settings)
    without = checked(path)
    assert without.returncode == 0, without.stderr
    maps = Maps.beside(path)
    for file in (maps.pools, maps.keys, maps.quotas):
        file.touch()
    pair = PAIR.certificate + PAIR.key
    (tmp_path / "edge.pem").write_text(pair)
    (tmp_path / "client-ca.pem").write_text(AUTHORITY.certificate)
    text = configuration.with_edge(path.read_text(), maps, ACCESS[access], NODES[nodes])
    assert "STRATA_" not in re.sub(r"\$\{STRATA_\w+\}", "", text)
    path.write_text(text)
    done = checked(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("[WARNING]") <= without.stderr.count("[WARNING]")


def test_a_model_without_a_replica_is_the_gateways(tmp_path):
    models = (DIGITS, application("gone", fallback=3))
    text = with_edge(write(tmp_path, GATEWAY, *models).read_text())
    rules = [line.strip() for line in text.splitlines() if "strata_up_" in line or "_gone" in line]
    assert rules == [
        "acl strata_up_http-digits srv_is_up(http-digits/SERVE_REPLICA__digits-0-model-abc)",
        "acl strata_up_http-digits srv_is_up(http-digits/SERVE_REPLICA__digits-1-model-abc)",
        "use_backend http-gateway if is_http-digits !strata_up_http-digits",
    ]
    ours = text.index("use_backend http-gateway if is_http-gone\n")
    assert ours < text.index("use_backend http-gone if is_http-gone\n")


def test_what_has_one_replica_has_more_tries(tmp_path):
    """Its death takes most of them, and only once; of several each could die of a request."""
    backends = [
        application("one", 1, fallback=9),
        application("two", 1, 2, fallback=9),
        application("asleep", fallback=9),
    ]
    lines = with_edge(write(tmp_path, *backends).read_text()).splitlines()
    after = {header: line.strip() for header, line in pairwise(lines)}
    assert after["backend http-one"] == "retries 10"
    assert not after["backend http-two"].startswith("retries")
    assert not after["backend http-asleep"].startswith("retries")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1:8000"),
        ("fd00::1", "[fd00::1]:8000"),
        ("[fd00::1]", "[fd00::1]:8000"),
    ],
)
def test_the_gateways_addresses_are_as_urls_have_them(tmp_path, host, address):
    gateway = replace(GATEWAY, servers=[ServerConfig("gateway-0", host, 8000)])
    assert configuration.gateway_addresses(write(tmp_path, gateway).read_text()) == [address]


def test_without_a_gateway_ray_chooses_alone(tmp_path):
    text = with_edge(write(tmp_path, DIGITS).read_text())
    assert "strata_up_" not in text


def test_what_the_map_has_a_pool_for_goes_there_before_ray_chooses(tmp_path):
    none_up = application("pool-none", fallback=3)
    text = with_edge(
        write(tmp_path, GATEWAY, POOL, none_up).read_text(), replace(MAPS, pools=Path("/a/map"))
    )
    ours = [line.strip() for line in text.splitlines() if "strata_up_" in line]
    assert ours == [
        "acl strata_up_http-pool-small "
        "srv_is_up(http-pool-small/SERVE_REPLICA__pool-small-0-model-abc)",
        "use_backend http-pool-small if strata_up_http-pool-small "
        "{ var(txn.strata_pool) -m str small }",
    ]
    assert text.index(ours[-1]) < text.index("use_backend http-gateway")
    assert "map(/a/map)" in text
