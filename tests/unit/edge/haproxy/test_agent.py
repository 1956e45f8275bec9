"""Rounds of the agent with no HAProxy to tell; test_access has both."""

import errno
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from serve.edge.haproxy import agent
from serve.edge.haproxy.agent import Agent
from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.certificate_keeper import CertificateKeeper
from serve.edge.haproxy.jwks_keeper import JwksKeeper
from serve.edge.haproxy.launcher import add_edge
from serve.edge.haproxy.settings import EdgeSettings, Jwt, RequestQuota
from serve.edge.keys import dump_keys, new_key, new_secret, sha256_of
from tests.issuer import SigningKey, jwks
from tests.unit.edge.haproxy.rays import application, write

SECRET = new_secret()
KEY = SigningKey()


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


class Site:
    """A folder with a configuration, settings and keys, and an agent of them."""

    def __init__(self, folder, monkeypatch):
        self.keys, self.settings = folder / "keys.json", folder / "edge.json"
        self.keys.write_text(dump_keys([new_key(SECRET, "web")]))
        self.set(EdgeSettings(keys=self.keys))
        monkeypatch.setenv("STRATA_EDGE_SETTINGS", str(self.settings))
        self.monkeypatch = monkeypatch
        self.configuration = write(folder, application("gateway", 1))
        self.metrics = AgentMetrics()
        self.agent = Agent(self.configuration, self.metrics)

    def set(self, settings):
        self.settings.write_text(settings.to_json())

    def map(self, name):
        return self.configuration.with_name(f"haproxy.cfg.{name}.map").read_text()

    def metric(self, name):
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        return next(line.split()[-1] for line in lines if line.startswith(name))


def test_the_maps_begin_as_the_files_say(site):
    site.agent.look()
    assert site.map("keys") == f"{sha256_of(SECRET).upper()} web|infer|all|\n"
    assert site.map("quotas") == ""
    assert site.metric("strata_access_keys_readable") == "1.0"


@pytest.mark.parametrize("text", ["", "{", '{"version": 1, "keys": [', "\0" * 100, None])
def test_a_file_that_cannot_be_used_leaves_the_last_keys_and_a_word_in_the_log(site, caplog, text):
    site.agent.look()
    before = site.map("keys")
    if text is None:
        site.keys.unlink()
    else:
        site.keys.write_text(text)
    for _ in range(3):
        site.agent.look()
    assert site.map("keys") == before
    assert site.metric("strata_access_keys_readable") == "0.0"
    assert caplog.text.count("the keys stay as they were") == 1
    site.keys.write_text(dump_keys([]))
    site.agent.look()
    assert site.map("keys") == ""
    assert site.metric("strata_access_keys_readable") == "1.0"


def test_an_agent_that_follows_another_one_keeps_its_keys_until_it_can_read_them(site):
    site.agent.look()
    before = site.map("keys")
    site.keys.write_text("{")
    after = Agent(site.configuration, AgentMetrics())
    after.look()
    assert site.map("keys") == before
    site.keys.write_text(dump_keys([]))
    after.look()
    assert site.map("keys") == ""


def test_where_there_never_were_keys_nobody_gets_in(site):
    site.keys.unlink()
    site.agent.look()
    assert site.map("keys") == ""


def test_keys_that_come_and_go_are_named_in_the_log(site, caplog):
    caplog.set_level("INFO")
    site.agent.look()
    (old,) = json.loads(site.keys.read_text())["keys"]
    new = new_key(new_secret(), "lab")
    site.keys.write_text(dump_keys([new]))
    site.agent.look()
    assert f"key {old['id']}: revoked" in caplog.text
    assert f"key {new.id}: new" in caplog.text


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_another(site):
    import os

    site.agent.look()
    status = site.keys.stat()
    other = dump_keys([new_key(new_secret(), "lab")])
    site.keys.with_name("new").write_text(other)
    os.utime(site.keys.with_name("new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    site.keys.with_name("new").replace(site.keys)
    site.agent.look()
    assert "lab|infer" in site.map("keys")


def test_a_disk_that_is_full_keeps_no_revoked_key_in_the_haproxy_that_runs(site, caplog):
    told = []

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    site.monkeypatch.setattr(site.agent, "_tell_haproxy", told.append)
    site.agent.look()
    site.keys.write_text(dump_keys([]))
    keys = site.configuration.with_name("haproxy.cfg.keys.map")
    for owner, name in (
        (CertificateKeeper, "look"),
        (JwksKeeper, "look"),
        (agent, "write_entries"),
    ):
        with site.monkeypatch.context() as patched:
            patched.setattr(owner, name, full)
            site.agent.look()
        assert told[-1][keys] == {}
    assert caplog.text.count("stays as it was: [Errno 28] No space left") == 1
    site.agent.look()
    assert site.map("keys") == ""


def test_keys_of_a_file_that_is_asked_for_no_more_are_none(site):
    site.agent.look()
    site.set(EdgeSettings(jwt=Jwt("x", str(site.keys), "strata", "RS256")))
    after = Agent(site.configuration, AgentMetrics())
    after.look()
    assert site.map("keys") == ""


def test_quotas_change_with_the_settings(site):
    site.set(EdgeSettings(keys=site.keys, quotas=(RequestQuota("web", None, 5, None),)))
    site.agent.look()
    assert site.map("quotas") == "web 5|\n"


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_settings_that_cannot_be_read_leave_the_last_ones(site, text):
    site.agent.look()
    before = site.map("keys")
    site.settings.write_text(text)
    site.agent.look()
    assert site.map("keys") == before
    assert site.metric("strata_edge_settings_readable") == "0.0"


class _Gateway(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.asked.append((self.path, self.headers["X-Strata-Edge"], body))
        restarted = self.server.restarted
        said = json.dumps({} if restarted is None else {"restarted": restarted}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


@pytest.fixture
def gateway():
    with HTTPServer(("127.0.0.1", 0), _Gateway) as server:
        server.asked, server.status, server.restarted = [], 200, 1
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_what_needs_other_lines_is_asked_of_the_gateway_until_it_heard(site, gateway, tmp_path):
    site.monkeypatch.setenv("STRATA_EDGE_SECRET", "secret")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):  # which would be told the secret
        site.monkeypatch.setenv(name, "http://127.0.0.1:1")
    site.monkeypatch.setenv("no_proxy", "")
    write(tmp_path, application("gateway", gateway.server_port))
    site.agent.look()
    site.set(EdgeSettings(keys=site.keys, tenant_header="x-who"))
    gateway.status = 503
    site.agent.look()
    gateway.status, gateway.restarted = 200, 0
    site.agent.look()
    gateway.restarted = 1
    site.agent.look()
    site.agent.look()
    assert gateway.asked == [("/strata/edge/changed", "secret", tmp_path.name)] * 3


def test_an_haproxy_that_began_with_other_settings_is_started_anew(site, gateway, tmp_path):
    """Whoever asked before, and whatever became of it."""
    text = write(tmp_path, application("gateway", gateway.server_port)).read_text()
    said = {"description": "strata-of-before"}
    socket = SimpleNamespace(info=lambda: said, counts=lambda table: {})
    site.monkeypatch.setattr(site.agent, "_meet", lambda: (text, pid, socket))
    site.monkeypatch.setattr(site.agent, "_push", lambda *_: None)
    pid = 1
    site.agent.look()
    site.agent.look()
    assert len(gateway.asked) == 1  # the start takes a while
    site.agent._asked_for_start = -math.inf
    site.agent.look()
    assert len(gateway.asked) == 2
    pid, said["description"] = 2, EdgeSettings(keys=site.keys).mark
    site.agent._asked_for_start = -math.inf
    site.agent.look()
    assert len(gateway.asked) == 2


def test_keys_of_an_issuer_that_haproxy_has_not_read_need_a_start(
    site, gateway, tmp_path, monkeypatch, eventually
):
    jwks_file = tmp_path / "jwks.json"
    jwks_file.write_bytes(jwks(KEY))
    jwt = Jwt("https://x.example/", str(jwks_file), "strata", "RS256")
    settings = EdgeSettings(jwt=jwt)
    site.set(settings)
    write(tmp_path, application("gateway", gateway.server_port))
    agent = Agent(site.configuration, site.metrics)
    agent.look()
    assert site.map("keys") == ""
    eventually(lambda: agent.look() or site.map("signers").count("\n") == 2)
    assert gateway.asked == []  # HAProxy is about to start with them
    add_edge(site.configuration, settings)
    agent.look()
    assert gateway.asked == []
    jwks_file.write_bytes(jwks(KEY, SigningKey(kid="two")))
    eventually(lambda: agent.look() or gateway.asked)
    agent.look()
    assert len(gateway.asked) == 1  # the start takes a while
    write(tmp_path, application("gateway", gateway.server_port))
    add_edge(site.configuration, settings)
    agent._asked_for_start = -math.inf
    agent.look()
    assert len(gateway.asked) == 1


def test_a_gateway_that_answers_something_else_has_not_heard(site, gateway, tmp_path):
    write(tmp_path, application("gateway", gateway.server_port))
    gateway.restarted = None
    site.agent.look()
    site.set(EdgeSettings(keys=site.keys, tenant_header="x-who"))
    site.agent.look()
    site.agent.look()
    assert len(gateway.asked) == 2


def test_it_is_needed_as_long_as_there_is_a_configuration(site):
    assert site.agent.is_needed()
    site.configuration.unlink()
    assert not site.agent.is_needed()


def test_it_is_not_needed_where_anybody_may_do_anything(site):
    site.monkeypatch.setattr(site.agent, "_ask_for_a_restart", lambda: True)
    site.set(EdgeSettings())
    site.agent.look()
    assert not site.agent.is_needed()


def test_one_that_stands_still_is_an_haproxy_all_the_same(site, monkeypatch):
    import os
    import time

    later = time.monotonic() + 61
    monkeypatch.setattr("serve.edge.haproxy.agent.time.monotonic", lambda: later)
    site.agent._pid = os.getpid()
    assert site.agent.is_needed()


def test_it_is_not_needed_when_no_haproxy_was_heard_of_for_long(site, monkeypatch):
    import time

    later = time.monotonic() + 61
    monkeypatch.setattr("serve.edge.haproxy.agent.time.monotonic", lambda: later)
    assert not site.agent.is_needed()
