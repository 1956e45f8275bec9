"""The ingress as commands ask it, over TLS too, where only one certificate will do."""

import shlex
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from serve.config.schema import Config
from serve.deploy.ingress import Ingress, ingress_of, is_refused, require_client_certificate
from serve.errors import ConfigError
from tests.authority import Authority
from tests.unit.edge.haproxy.echo import Echo

AUTHORITY, CLIENTS = Authority(), Authority("clients")
PAIR = AUTHORITY.pair("models.example", "*.other.example")


class _Site(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write((self.headers.get("x-api-key") or "nobody").encode())

    def log_message(self, *_):
        pass


@contextmanager
def https(pair, folder, client_ca=None):
    """Serve with a pair; yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair.write(folder, "served"))
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        server.handle_error = lambda *_: None
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("STRATA_API_KEY", "STRATA_CLIENT_CERTIFICATE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with Echo("ingress") as echo:
        yield Ingress(f"http://127.0.0.1:{echo.server_port}")
        echo.shutdown()


def seen(server, **more):
    return server.ask("GET", "/", timeout_s=30, **more).json()["headers"]


def test_a_key_of_the_environment_goes_with_the_request(server, monkeypatch):
    monkeypatch.setenv("STRATA_API_KEY", "key")
    headers = seen(server, headers={"X-Own": "1"})
    assert (headers["x-api-key"], headers["x-own"]) == ("key", "1")


@pytest.mark.parametrize("key", [None, ""])
def test_without_one_there_is_no_header(server, monkeypatch, key):
    if key is not None:
        monkeypatch.setenv("STRATA_API_KEY", key)
    assert "x-api-key" not in seen(server)


@pytest.mark.parametrize(
    ("status", "refused"), [(200, False), (401, True), (403, True), (404, False)]
)
def test_a_refusal_is_told_by_its_status(server, status, refused):
    response = server.ask("GET", "/", timeout_s=30, headers={"X-Status": str(status)})
    assert is_refused(response) == refused


def ingress(folder, port, text):
    (folder / "named.crt").write_text(text)
    http = {"port": port, "tls": {"certificate": str(folder / "named.crt"), "key": "k"}}
    return ingress_of(Config.model_validate({"http": http}))


def test_the_certificate_that_the_config_names_is_trusted_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("STRATA_API_KEY", "mine")
    with https(PAIR, tmp_path) as port:
        asked = ingress(tmp_path, port, PAIR.certificate + AUTHORITY.certificate)
        assert asked.url == f"https://127.0.0.1:{port}"
        assert asked.ask("GET", "/", timeout_s=60).text == "mine"


def test_no_other_certificate_is_even_of_the_same_ca_and_name(tmp_path, monkeypatch):
    other = AUTHORITY.pair("models.example")
    with https(other, tmp_path) as port:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.crt"))
        (tmp_path / "ca.crt").write_text(AUTHORITY.certificate)
        for text in (PAIR.certificate, PAIR.certificate + AUTHORITY.certificate):
            with pytest.raises(requests.exceptions.SSLError):
                ingress(tmp_path, port, text).ask("GET", "/", timeout_s=60)


def test_a_url_of_somebody_else_is_trusted_by_the_systems_cas_alone(tmp_path):
    with https(PAIR, tmp_path) as port, pytest.raises(requests.exceptions.SSLError):
        Ingress(f"https://127.0.0.1:{port}").ask("GET", "/", timeout_s=60)


def test_a_certificate_that_cannot_be_read_is_named(tmp_path):
    for text in ("", PAIR.certificate[:90]):
        with pytest.raises(ConfigError, match=r"http\.tls\.certificate: .*named\.crt"):
            ingress(tmp_path, 1, text).ask("GET", "/", timeout_s=60)


def test_a_client_shows_its_own_certificate_where_one_is_asked_for(tmp_path, monkeypatch):
    mine = CLIENTS.pair("me")
    (tmp_path / "me.pem").write_text(mine.certificate + mine.key)
    with https(PAIR, tmp_path, CLIENTS) as port:
        asked = ingress(tmp_path, port, PAIR.certificate)
        with pytest.raises(requests.exceptions.ConnectionError):
            asked.ask("GET", "/", timeout_s=60)
        monkeypatch.setenv("STRATA_CLIENT_CERTIFICATE", str(tmp_path / "me.pem"))
        assert asked.ask("GET", "/", timeout_s=60).text == "nobody"


def test_a_platform_that_requires_certificates_is_not_started_without_one(tmp_path, monkeypatch):
    tls = {"certificate": "c", "key": "k", "client_ca": "a"}
    required = Config.model_validate({"http": {"tls": tls}})
    optional = {**tls, "client_certificates": "optional"}
    require_client_certificate(Config.model_validate({"http": {"tls": optional}}))
    require_client_certificate(Config())
    with pytest.raises(ConfigError, match="STRATA_CLIENT_CERTIFICATE, or write optional"):
        require_client_certificate(required)
    monkeypatch.setenv("STRATA_CLIENT_CERTIFICATE", str(tmp_path / "me.pem"))
    with pytest.raises(ConfigError, match="STRATA_CLIENT_CERTIFICATE"):
        require_client_certificate(required)
    (tmp_path / "me.pem").touch()
    require_client_certificate(required)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("10.0.0.7", "http://10.0.0.7:8000"),
        ("::1", "http://[::1]:8000"),
        ("::", "http://127.0.0.1:8000"),
    ],
)
def test_it_is_asked_where_it_listens(host, url):
    assert ingress_of(Config.model_validate({"http": {"host": host}})) == Ingress(url)


@pytest.mark.parametrize(
    "names",
    [("127.0.0.1",), ("x.example", "localhost"), ("models.example",), ("*.models.example",)],
)
def test_curl_trusts_the_certificate_by_the_line_that_is_printed(tmp_path, names):
    pair = AUTHORITY.pair(*names)
    with https(pair, tmp_path) as port:
        options, url = ingress(tmp_path, port, pair.certificate).for_curl()
        line = " ".join(["curl -sS", *options, f"{url}/"])
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("nobody", "")


def test_curl_needs_nothing_for_http():
    assert Ingress("http://127.0.0.1:8000").for_curl() == ([], "http://127.0.0.1:8000")
