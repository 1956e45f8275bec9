import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.jwks_keeper import JwksKeeper, key_file, signers_file
from serve.edge.haproxy.settings import EdgeSettings, Jwt
from serve.edge.haproxy.whole_files import write_whole
from tests.issuer import JwksServer, SigningKey, jwks
from tests.ports import free_port

KEY, OTHER = SigningKey(), SigningKey(kid="two")


class Site:
    """A folder with settings, a clock that is set, and a keeper of them."""

    def __init__(self, folder, place, monkeypatch):
        self.configuration, self.settings = folder / "haproxy.cfg", folder / "edge.json"
        monkeypatch.setenv("STRATA_EDGE_SETTINGS", str(self.settings))
        self.now, self.jwt = 1000.0, Jwt("https://x.example/", str(place), "strata", "RS256")
        self.follow()

    def follow(self):
        """Have another keeper begin, as after a restart of the agent."""
        self.metrics = AgentMetrics()
        self.keeper = JwksKeeper(self.configuration, self.metrics, lambda: self.now)

    def look(self):
        # Whole, as the agent writes it: the process that reads the keys may be reading it now.
        write_whole(self.settings, EdgeSettings(jwt=self.jwt).to_json())
        self.keeper.look(self.jwt)

    def is_done(self):
        """Look until nothing is being read."""
        self.look()
        return self.keeper._fetching is None

    def metric(self, name):
        lines = generate_latest(self.metrics.registry).decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name + " ")))


@pytest.fixture
def server():
    with JwksServer(jwks(KEY)) as running:
        yield running


@pytest.fixture
def site(server, tmp_path, monkeypatch):
    return Site(tmp_path, server.url, monkeypatch)


def entry(kid):
    return hashlib.sha256(kid.encode()).hexdigest().upper()


def test_an_only_key_is_found_by_its_id_and_by_none(site, eventually):
    eventually(site.is_done)
    (file,) = set(site.keeper.entries().values())
    assert site.keeper.entries() == {entry("=one"): file, entry("-"): file}
    assert b"BEGIN PUBLIC KEY" in Path(file).read_bytes()
    assert site.metric("strata_access_jwks_readable") == 1
    assert site.metric("strata_access_jwks_keys") == 1
    assert site.metric("strata_access_jwks_read_timestamp_seconds") > 0


def test_of_more_keys_each_is_found_by_its_id_alone(site, server, eventually):
    server.body = jwks(KEY, OTHER, SigningKey(kid=None))
    eventually(site.is_done)
    assert site.keeper.entries().keys() == {entry("=one"), entry("=two")}


def test_they_are_read_again_after_five_minutes_and_soon_after_a_failure(site, server, eventually):
    eventually(site.is_done)
    site.now += 200
    assert site.is_done()
    assert server.asked == 1
    site.now += 135
    eventually(site.is_done)
    assert server.asked == 2
    server.status = 500
    site.now += 335
    eventually(site.is_done)
    assert site.metric("strata_access_jwks_readable") == 0
    server.status = 200
    site.now += 31
    eventually(site.is_done)
    assert (server.asked, site.metric("strata_access_jwks_readable")) == (4, 1)


@pytest.mark.parametrize(
    ("status", "body"), [(503, jwks(OTHER)), (200, b'{"keys":[]}'), (200, b"{")]
)
def test_what_cannot_be_used_leaves_the_last_keys_and_one_line(
    site, server, eventually, caplog, status, body
):
    eventually(site.is_done)
    before, read = site.keeper.entries(), site.metric("strata_access_jwks_read_timestamp_seconds")
    server.status, server.body = status, body
    for _ in range(3):
        site.now += 400
        eventually(site.is_done)
    assert site.keeper.entries() == before
    assert site.metric("strata_access_jwks_read_timestamp_seconds") == read
    assert caplog.text.count("stay as they were") == 1
    assert server.url in caplog.text


def test_the_next_agent_begins_with_the_last_keys_though_the_issuer_is_down(
    site, server, eventually
):
    eventually(site.is_done)
    before = site.keeper.entries()
    server.status = 500
    site.follow()
    site.look()
    assert site.keeper.entries() == before
    assert site.metric("strata_access_jwks_keys") == 1
    eventually(site.is_done)
    assert site.keeper.entries() == before


def test_the_keys_of_another_place_or_algorithm_do_not_count(site, server, eventually):
    eventually(site.is_done)
    good = site.jwt
    for changed in ({"jwks": f"http://127.0.0.1:{free_port()}/"}, {"algorithm": "ES256"}):
        site.jwt = replace(good, **changed)
        site.look()
        assert site.keeper.entries() == {}
        assert site.metric("strata_access_jwks_keys") == 0
        eventually(site.is_done)
        assert site.keeper.entries() == {}
        site.jwt = good
        site.look()
        assert site.keeper.entries() != {}


def test_nothing_waits_for_an_issuer_that_does_not_answer(site, server, eventually):
    eventually(site.is_done)
    server.goes_on.clear()
    site.now += 400
    for _ in range(3):
        site.look()
    assert site.keeper._fetching is not None
    assert site.keeper.entries() != {}
    server.goes_on.set()
    eventually(site.is_done)
    assert server.asked == 2


def test_tokens_of_unknown_keys_have_them_read_sooner_but_not_at_once(site, server, eventually):
    eventually(site.is_done)
    site.keeper.hear(0)
    site.keeper.hear(5)
    site.now += 20
    assert site.is_done()
    assert server.asked == 1
    site.now += 11
    eventually(site.is_done)
    assert server.asked == 2
    site.keeper.hear(5)
    site.now += 31
    assert site.is_done()
    assert server.asked == 2


def test_a_file_is_read_as_soon_as_it_changes(tmp_path, monkeypatch, eventually):
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(KEY))
    site = Site(tmp_path, file, monkeypatch)
    eventually(site.is_done)
    file.write_bytes(jwks(OTHER))
    eventually(lambda: site.is_done() and entry("=two") in site.keeper.entries())
    file.unlink()
    eventually(lambda: site.is_done() and not site.metric("strata_access_jwks_readable"))
    assert entry("=two") in site.keeper.entries()


def test_files_of_keys_that_are_gone_for_two_sets_go(site, server, eventually):
    eventually(site.is_done)
    for kid in ("a", "b", "c"):
        server.body = jwks(SigningKey(kid=kid))
        site.now += 400
        eventually(site.is_done)
    assert len(list(site.configuration.parent.glob("signer-*.pem"))) == 2
    assert set(site.keeper.entries().values()) < set(
        map(str, site.configuration.parent.glob("signer-*.pem"))
    )


def test_without_tokens_nothing_is_read_and_nothing_is_wrong(site, server):
    site.jwt = None
    site.look()
    assert site.keeper.entries() == {}
    assert site.metric("strata_access_jwks_readable") == 1
    assert server.asked == 0


def test_a_process_that_ends_for_its_time_is_said_to_be_too_slow(site, server, eventually, caplog):
    eventually(site.is_done)
    server.goes_on.clear()
    site.now += 400
    site.look()
    site.keeper._fetching.kill()
    eventually(lambda: site.is_done() or "too slow" in caplog.text)
    assert "it is too slow" in caplog.text


def test_names_of_files_are_of_the_configuration_and_the_key(tmp_path):
    assert signers_file(tmp_path / "x.cfg").name == "x.cfg.signers.json"
    assert key_file(tmp_path / "x.cfg", "a") != key_file(tmp_path / "x.cfg", "b")
    assert os.fspath(key_file(tmp_path / "x.cfg", "../a")).startswith(f"{tmp_path}/signer-")
