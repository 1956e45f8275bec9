"""What becomes of certificates that HAProxy has, refuses or lost; test_transport has HAProxy."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client import generate_latest

from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.certificate_keeper import CertificateKeeper
from serve.edge.haproxy.settings import Tls
from tests.authority import Authority

NOW = datetime.now(UTC)
AUTHORITY = Authority()
FIRST, SECOND = AUTHORITY.pair("localhost"), AUTHORITY.pair("localhost")


class Socket:
    """HAProxy's admin socket, which remembers what it was told and refuses if it is to."""

    def __init__(self):
        self.told = []
        self.refusal = ""

    def replace_certificate(self, kind, file, pem):
        self.told.append((kind, file.name, pem))
        return self.refusal


@pytest.fixture
def metrics():
    return AgentMetrics()


@pytest.fixture
def keeper(tmp_path, metrics):
    return CertificateKeeper(tmp_path / "haproxy.cfg", metrics)


def pem(pair):
    return pair.certificate + pair.key


def is_good(metrics):
    text = generate_latest(metrics.registry).decode()
    return 'strata_edge_certificate_readable{certificate="server"} 1.0' in text


def test_each_haproxy_is_told_once(tmp_path, keeper):
    tls, socket = Tls(*FIRST.write(tmp_path)), Socket()
    for pid in (1, 1, 2):
        keeper.look(tls, NOW)
        keeper.tell(socket, pid)
    assert socket.told == 2 * [("cert", "edge.pem", pem(FIRST))]


def test_what_haproxy_refuses_is_not_what_the_next_one_begins_with(tmp_path, keeper, metrics):
    tls, socket = Tls(*FIRST.write(tmp_path)), Socket()
    keeper.look(tls, NOW)
    keeper.tell(socket, 1)
    SECOND.write(tmp_path)
    socket.refusal = "no"
    for _ in range(3):
        keeper.look(tls, NOW)
        keeper.tell(socket, 1)
        assert not is_good(metrics)
    assert len(socket.told) == 2
    assert (tmp_path / "edge.pem").read_text() == pem(FIRST)
    socket.refusal = ""
    keeper.look(tls, NOW)
    keeper.tell(socket, 2)
    keeper.look(tls, NOW)
    assert is_good(metrics)
    assert (tmp_path / "edge.pem").read_text() == pem(SECOND)


def test_an_agent_that_was_started_anew_leaves_what_is_there_where_it_can_read_nothing(
    tmp_path, keeper, metrics, caplog
):
    (tmp_path / "edge.pem").write_text(pem(FIRST))
    for _ in range(3):
        keeper.look(Tls(tmp_path / "none", tmp_path / "none"), NOW)
        keeper.tell(Socket(), 1)
    assert (tmp_path / "edge.pem").read_text() == pem(FIRST)
    assert not is_good(metrics)
    assert caplog.text.count("http.tls.certificate: there is no") == 1
    assert "strata_edge_certificate_expires" in generate_latest(metrics.registry).decode()


def test_without_tls_there_is_nothing_to_keep(tmp_path, keeper):
    socket = Socket()
    keeper.look(Tls(*FIRST.write(tmp_path)), NOW)
    keeper.look(None, NOW)
    keeper.tell(socket, 1)
    assert socket.told == []


def test_a_ca_of_clients_that_is_asked_for_no_more_is_told_to_no_haproxy(
    tmp_path, keeper, metrics, caplog
):
    tls, socket = Tls(*FIRST.write(tmp_path), client_ca=tmp_path / "ca.crt"), Socket()
    (tmp_path / "ca.crt").write_text("none")
    keeper.look(tls, NOW)
    (tmp_path / "ca.crt").write_text(AUTHORITY.certificate)
    keeper.look(tls, NOW)
    (tmp_path / "ca.crt").write_text("none")
    keeper.look(tls, NOW)
    keeper.look(replace(tls, client_ca=None), NOW)
    keeper.tell(socket, 1)
    assert [kind for kind, *_ in socket.told] == ["cert"]
    text = generate_latest(metrics.registry).decode()
    assert 'strata_edge_certificate_readable{certificate="client_ca"} 1.0' in text
    said = caplog.text.count("stay as they were")
    keeper.look(tls, NOW)
    assert caplog.text.count("stay as they were") == said + 1


def test_why_there_is_none_to_begin_with_is_beside_it_until_there_is(tmp_path, keeper):
    why = tmp_path / "edge.pem.why"
    keeper.look(Tls(tmp_path / "tls.crt", tmp_path / "tls.key"), NOW)
    assert "http.tls.certificate: there is no" in why.read_text()
    keeper.look(Tls(*FIRST.write(tmp_path)), NOW)
    assert not why.exists()
    (tmp_path / "edge.pem").unlink()
    (tmp_path / "tls.key").unlink()
    keeper.look(Tls(tmp_path / "tls.crt", tmp_path / "tls.key"), NOW)
    assert "http.tls.key: there is no" in why.read_text()
    keeper.look(None, NOW)
    assert not why.exists()
    (tmp_path / "edge.pem").write_text(pem(FIRST))
    keeper.look(Tls(tmp_path / "tls.crt", tmp_path / "tls.key"), NOW)
    assert not why.exists()
