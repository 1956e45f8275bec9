import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from serve.edge.haproxy.jwks import MOST_BYTES, parse_jwks
from serve.edge.haproxy.jwks_fetch import fetch, read_signers, write_signers
from serve.edge.haproxy.settings import EdgeSettings, Jwt
from serve.errors import ConfigError
from tests.authority import Authority
from tests.issuer import JwksServer, SigningKey, jwks
from tests.ports import free_port

KEY = SigningKey()
BODY = jwks(KEY)


def of(place, **changed):
    jwt = Jwt("https://login.example.com/", str(place), "strata", "RS256")
    return replace(jwt, **changed)


@pytest.fixture
def server():
    with JwksServer(BODY) as running:
        yield running


def test_the_keys_of_a_url_and_of_a_file_are_those_that_are_there(server, tmp_path):
    (tmp_path / "jwks.json").write_bytes(BODY)
    for place in (server.url, tmp_path / "jwks.json"):
        assert fetch(of(place)) == parse_jwks(BODY, "RS256")


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 401, 404, 500, 503])
def test_any_other_answer_is_none_and_no_redirect_is_followed(server, status):
    with JwksServer(BODY) as other:
        server.status, server.headers = status, {"Location": other.url}
        with pytest.raises(ConfigError, match=f"status {status}"):
            fetch(of(server.url))
        assert other.asked == 0


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"keys":[]}', BODY[:-2], BODY + b" " * MOST_BYTES]
)
def test_a_body_that_is_no_set_or_a_huge_one_is_refused_with_its_place(server, body):
    server.body = body
    with pytest.raises(ConfigError, match=f"{server.url} cannot be used"):
        fetch(of(server.url))


def test_a_server_that_is_down_is_refused():
    with pytest.raises(ConfigError, match="cannot be used"):
        fetch(of(f"http://127.0.0.1:{free_port()}/"))


def test_a_file_that_is_gone_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        fetch(of(tmp_path / "jwks.json"))


def test_the_certificate_of_a_url_is_held_to_the_ca_that_is_named(server, tmp_path):
    authority, other = Authority(), Authority("others")
    certificate, key = authority.pair("127.0.0.1").write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    for name, each in (("ca", authority), ("other", other)):
        (tmp_path / name).write_text(each.certificate)
    assert fetch(of(url, jwks_ca=tmp_path / "ca")) == parse_jwks(BODY, "RS256")
    for ca in (tmp_path / "other", None, tmp_path / "none"):
        with pytest.raises(ConfigError, match="cannot be used"):
            fetch(of(url, jwks_ca=ca))


def test_what_is_written_is_read_as_the_keys_of_that_place_and_algorithm(tmp_path):
    jwt = of("/jwks.json")
    write_signers(tmp_path / "signers", jwt, parse_jwks(BODY, "RS256"))
    found = read_signers(tmp_path / "signers")
    assert found.keys == parse_jwks(BODY, "RS256")
    assert found.are_of(jwt)
    assert not found.are_of(replace(jwt, jwks="/other.json"))
    assert not found.are_of(replace(jwt, algorithm="PS256"))


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"keys":[{}]}', '{"keys":5}'])
def test_a_file_that_is_not_whole_has_no_keys(tmp_path, text):
    if text is not None:
        (tmp_path / "signers").write_text(text)
    assert read_signers(tmp_path / "signers") is None


def run(tmp_path, jwt, *options):
    (tmp_path / "edge.json").write_text(EdgeSettings(jwt=jwt).to_json())
    options = options or ("-m", "serve.edge.haproxy.jwks_fetch")
    command = [sys.executable, *options, str(tmp_path / "signers")]
    variables = {**os.environ, "STRATA_EDGE_SETTINGS": str(tmp_path / "edge.json")}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_the_process_writes_what_it_finds_or_says_why_not(server, tmp_path):
    assert run(tmp_path, of(server.url)).returncode == 0
    before = (tmp_path / "signers").read_text()
    assert json.loads(before)["keys"][0]["kid"] == "one"
    server.body = b""
    ended = run(tmp_path, of(server.url))
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert "it is no JSON" in ended.stderr
    assert (tmp_path / "signers").read_text() == before
    assert run(tmp_path, None).returncode == 1


def test_a_server_that_never_ends_its_answer_ends_the_process(server, tmp_path, monkeypatch):
    """One byte at a time, each of which would keep a timeout of the socket from passing."""
    stop = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b" ")

    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", drip)
    code = "from serve.edge.haproxy import jwks_fetch; jwks_fetch._MOST_S = 1; jwks_fetch.main()"
    ended = run(tmp_path, of(server.url), "-c", code)
    assert ended.returncode == -signal.SIGALRM
    stop.set()
    assert not (tmp_path / "signers").exists()
