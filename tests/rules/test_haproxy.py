"""HAProxy counts what the rules take its counters for.

The real one, with the configuration that it gets on a platform, and replicas that fail.
"""

import json
import re
from collections import Counter

import pytest
import requests
from hypothesis import given, strategies

from serve.config.sections import NAME_PATTERN
from serve.deploy.monitoring import DASHBOARDS, HAPROXY_KEPT, HAPROXY_SCOPES, RULES
from tests.ports import free_port
from tests.unit.edge.haproxy.echo import Echo
from tests.unit.edge.haproxy.rays import application
from tests.unit.edge.haproxy.running import Edge

_CALLS = 5
_LINE = re.compile(r'^(haproxy_\w+)(?:{proxy="([^"]+)"(?:,code="([^"]+)")?})? (\S+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory, eventually):
    """The exporter's page after some calls of each model: what it has by name, proxy and code."""
    replica = Echo("replica")
    ports = dict.fromkeys(("good", "raises", "breaks"), replica.server_port)
    ports["gone"] = free_port()
    headers = {"raises": {"x_status": "503"}, "breaks": {"x_dies": "1"}}
    # Without a gateway, which is asked in the place of replicas that are known to be gone.
    backends = [application(name, port) for name, port in ports.items()]
    # With one thread HAProxy has counted all that it answered before it answers for its page.
    with Edge(tmp_path_factory.mktemp("edge"), *backends, idle_s=60, nbthread=1) as edge:
        eventually(edge.is_up)
        for name in ports:
            for _ in range(_CALLS):
                edge.ask(f"/v2/models/{name}", **headers.get(name, {}))
        yield _scrape(edge.metrics_port)
    replica.shutdown()
    replica.server_close()


def _scrape(port):
    url = f"http://127.0.0.1:{port}/metrics"
    text = requests.get(url, params={"scope": HAPROXY_SCOPES}, timeout=30).text
    return {(name, proxy, code): float(v) for name, proxy, code, v in _LINE.findall(text)}


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
    assert page[asked, "http_frontend", "2xx"] >= _CALLS  # and of the health check
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
