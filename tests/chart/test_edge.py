"""HAProxy with what a rendered chart has for it, and the release's own probes against it.

The Secrets are folders that change as a kubelet changes them: a link is moved, and all entries
are new at once.
"""

import os
import ssl
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from serve.edge.haproxy.settings import SETTINGS_VARIABLE, read_settings
from tests.authority import Authority, Pair, trusting
from tests.chart.conftest import CHART
from tests.chart.test_access import named, pods
from tests.chart.test_tls import FOLDER, PLAIN, read_by, readiness_of
from tests.e2e.load import Call, Load
from tests.ports import free_port
from tests.unit.edge.haproxy.echo import Echo
from tests.unit.edge.haproxy.rays import application
from tests.unit.edge.haproxy.running import Edge, response
from tests.unit.edge.haproxy.test_transport import by_plain_http, serial_of

SERVERS, CLIENTS = Authority("servers"), Authority("clients")
APP, OTHER = "https://app.example.com", "https://evil.example.com"
PREFLIGHT = {"Access-Control-Request-Method": "POST"}
VALUES = {
    "http": {"tls": {"redirect_port": 80}, "cors": {"origins": [APP]}},
    "tls": {"existingSecret": "web"},
    "service": {"port": 443},
}


def mount(folder: Path, entries: dict[str, str]) -> None:
    """Have a folder hold what a Secret has, as a kubelet's atomic writer does."""
    folder.mkdir(exist_ok=True)
    data = folder / f"..{len(list(folder.iterdir()))}"
    data.mkdir()
    for name, text in entries.items():
        (data / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..new").symlink_to(data.name)
    (folder / "..new").rename(folder / "..data")


def entries(pair: Pair) -> dict[str, str]:
    return {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": CLIENTS.certificate}


@dataclass
class Pod:
    """A worker's HAProxy: `secret` is the folder of certificates, `plain` the port without TLS."""

    edge: Edge
    secret: Path
    plain: int
    readiness: str

    def probe(self, verb: str = "ready", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run what the readiness Job runs, which has the certificate mounted, too."""
        told = {"STRATA_CERTIFICATE": str(self.secret / "tls.crt"), **environment}
        url = f"https://127.0.0.1:{self.edge.port}"
        command = [sys.executable, CHART / "files" / "probe.py", verb, url, "0", "m"]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **told}
        )


@pytest.fixture(scope="module")
def backends():
    proxy = Echo("proxy").server_port
    return [application(name, Echo(name).server_port, fallback=proxy) for name in ("gateway", "m")]


@pytest.fixture
def start(render, backends, tmp_path, eventually):
    """Start the HAProxy of a worker of these values."""
    with ExitStack() as stack:

        def start(values=VALUES, context=None):
            objects, secret, plain = render(values), tmp_path / "tls", free_port()
            mount(secret, entries(SERVERS.pair("localhost", "127.0.0.1")))
            text = named(objects, "ConfigMap", "strata-edge")["data"][read_by(objects)]
            told = text.replace(FOLDER, str(secret)).replace(str(PLAIN), str(plain))
            (tmp_path / "told.json").write_text(told)
            settings = read_settings({SETTINGS_VARIABLE: str(tmp_path / "told.json")})
            # As every pod of a release has it: peers are where there is something to count.
            nodes = {"STRATA_NODE_ADDRESS": "127.0.0.1", "STRATA_PEERS_PORT": str(free_port())}
            context = context or (trusting(SERVERS) if settings.tls else None)
            made = Edge(tmp_path, *backends, access=settings, context=context, environment=nodes)
            edge = stack.enter_context(made)
            eventually(edge.is_up)
            readiness = readiness_of(pods(objects)[1]).partition(" && ")[2]
            health = edge.port if settings.tls is None else plain
            for port in (PLAIN, 8000):
                readiness = readiness.replace(f"localhost:{port}/", f"localhost:{health}/")
            return Pod(edge, secret, plain, readiness)

        yield start


def test_https_is_spoken_with_the_secrets_certificate_and_http_is_sent_to_it(start):
    pod = start()
    assert pod.edge.ask("/v2/models/m").status == 200
    sent_on = by_plain_http(pod.plain, "/v2/models/m?a=b", "Host: models.example")
    assert sent_on.status == 308
    assert sent_on.headers["location"] == "https://models.example/v2/models/m?a=b"
    hsts = pod.edge.ask("/v2/models/m").headers["strict-transport-security"]
    assert hsts == "max-age=31536000"


@pytest.mark.parametrize("values", [VALUES, {"http": VALUES["http"] | {"tls": None}}])
def test_the_readiness_probe_of_workers_finds_out_that_haproxy_serves(start, values):
    pod = start(values)
    done = subprocess.run(["bash", "-c", pod.readiness], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_pages_of_the_named_origins_may_call_and_no_others(start):
    pod = start()
    for origin, allowed in ((APP, APP), (OTHER, None)):
        asked = pod.edge.ask("/v2/models/m/infer", "OPTIONS", Origin=origin, **PREFLIGHT)
        assert asked.headers.get("access-control-allow-origin") == allowed
        assert (asked.status == 204) == (origin == APP)


def test_a_renewed_secret_is_served_and_no_connection_is_dropped(start, eventually):
    pod = start()
    before = serial_of(pod.edge)
    address = "127.0.0.1", pod.edge.port
    call = Call("/v2/models/m", {}, lambda answer: answer["name"] == "m")
    load = Load(address, [call], pause_s=0, context=trusting(SERVERS))
    with pod.edge.connect() as connection, load:
        ask_on(connection)
        eventually(load.so_many_more(10))
        mount(pod.secret, entries(SERVERS.pair("localhost", "127.0.0.1")))
        eventually(lambda: serial_of(pod.edge) != before)
        eventually(load.so_many_more(10))
        ask_on(connection)
        assert connection.getpeercert()["serialNumber"] == before
    assert load.failures == []


def ask_on(connection):
    connection.sendall(b"GET /v2/models/m HTTP/1.1\r\nHost: x\r\n\r\n")
    assert response(connection).status == 200


def test_the_releases_own_probe_trusts_the_secrets_certificate_and_no_other(start, tmp_path):
    pod = start()
    done = pod.probe()
    assert (done.returncode, done.stdout) == (0, "m: ready\n"), done.stderr
    (strange, _) = SERVERS.pair("localhost").write(tmp_path, "strange")
    refused = pod.probe(STRATA_CERTIFICATE=str(strange))
    assert refused.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    missing = pod.probe(STRATA_CERTIFICATE=str(tmp_path / "absent"))
    assert (missing.returncode, "Traceback" in missing.stderr) == (1, False)


def test_where_clients_need_a_certificate_the_probe_shows_its_own(start, tmp_path):
    asked = {"client_ca": "ca.crt"}
    values = {"http": {"tls": asked}, "tls": {"existingSecret": "web", "probeSecret": "probe"}}
    own = CLIENTS.pair("probe").write(tmp_path, "own")
    context = trusting(SERVERS)
    context.load_cert_chain(*own)
    pod = start(values, context)
    shown = {"STRATA_CLIENT_CERTIFICATE": str(own[0]), "STRATA_CLIENT_KEY": str(own[1])}
    assert pod.probe(**shown).returncode == 0
    assert pod.probe().returncode == 1
    pod.edge.context = trusting(SERVERS)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        pod.edge.connect().recv(1)


def test_a_probe_that_comes_by_http_before_a_cluster_without_tls_takes_over_waits(start):
    pod = start()
    url = f"http://127.0.0.1:{pod.edge.port}"
    command = [sys.executable, CHART / "files" / "probe.py", "ready", url, "0", "m"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr


def test_an_agent_looks_after_the_origins_where_there_is_nothing_else_to_look_after(
    start, eventually
):
    pod = start({"http": {"cors": {"origins": [APP]}}})
    good = "strata_edge_settings_readable"
    eventually(lambda: f"{good} 1.0" in pod.edge.metrics_text())
    pod.edge.settings.write_text("{")
    eventually(lambda: f"{good} 0.0" in pod.edge.metrics_text())
