"""The maps, tables and certificates of an HAProxy that runs."""

import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from reliability.stopped import stand_still

from serve.edge.haproxy.access import Maps
from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.settings import EdgeSettings, RequestQuota, Tls
from tests.authority import Authority, trusting
from tests.unit.edge.haproxy.running import Edge


@pytest.fixture(scope="module")
def edge(tmp_path_factory, eventually):
    access = EdgeSettings(quotas=(RequestQuota("web", None, 1, None),))
    with Edge(tmp_path_factory.mktemp("edge"), access=access) as running:
        eventually(running.is_up)
        yield running


def test_a_map_is_made_what_is_wanted(edge):
    pools = Maps.beside(edge.path).pools
    many = {f"model-{number}": f"pool|{number}" for number in range(1000)}
    changed = {**many, "model-7": "another", "new": "one"}
    del changed["model-8"]
    has = {}
    with AdminSocket.of(edge.path.read_text()) as socket:
        for wanted in (many, changed, {}, {"one": "a"}, changed, {}):
            socket.make(pools, wanted, has)
            assert socket.entries(pools) == wanted
            has = wanted


def test_it_says_which_process_it_is_of(edge):
    with AdminSocket.of(edge.path.read_text()) as socket:
        pid = socket.info()["Pid"]
    assert b"haproxy" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_table_without_rows_has_no_counts(edge):
    with AdminSocket.of(edge.path.read_text()) as socket:
        assert socket.counts("strata_refused") == {}


def test_what_a_table_says_of_requests_under_way_is_made_true(edge):
    (table,) = re.findall(r"^backend (strata_tenants_\S+)", edge.path.read_text(), re.MULTILINE)
    with AdminSocket.of(edge.path.read_text()) as socket:
        for key in ("web", "lab"):
            socket.ask(f"set table {table} key {key} data.gpt0 3")
        assert socket.ask(f"show table {table} data.gpt0 gt 0").count("key=") == 2
        socket.settle(table)
        assert socket.ask(f"show table {table} data.gpt0 gt 0").count("key=") == 0
        assert socket.ask(f"show table {table}").count("gpt0=0") == 2


def test_what_a_map_cannot_have_is_an_error(edge):
    pools = Maps.beside(edge.path).pools
    with AdminSocket.of(edge.path.read_text()) as socket:
        for wanted in ({"a": "b"}, {f"model-{number}": "b" for number in range(100)}):
            with pytest.raises(OSError, match="does not change"):
                socket.make(pools.with_name("none.map"), wanted, {})


def test_an_answer_that_comes_late_is_not_taken_for_another(edge, eventually):
    socket, process = AdminSocket.of(edge.path.read_text()), edge.process

    def pid():
        with suppress(TimeoutError):  # it has all the answers of before to give
            return socket.info()["Pid"]

    socket.be_brief()
    with socket:
        stand_still(process)
        try:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    socket.ask("show map", "show table")
        finally:
            process.send_signal(signal.SIGCONT)
        assert eventually(pid) == str(process.pid)
        assert "Pid: " not in socket.ask("show map")


def test_a_conversation_that_ended_is_an_error(edge):
    socket = AdminSocket.of(edge.path.read_text())
    with socket, pytest.raises(OSError, match="ended the conversation"):
        socket.ask("quit")


def test_a_certificate_is_replaced_or_told_why_not_and_then_stays(tmp_path, eventually):
    authority = Authority()
    first, second = authority.pair("localhost"), authority.pair("localhost")
    tls = Tls(*first.write(tmp_path))
    context = trusting(authority)
    # The agent has told HAProxy its certificate once it has counted who was refused after that.
    access = EdgeSettings(tls=tls, quotas=(RequestQuota("web", None, 0, None),))
    with Edge(tmp_path, access=access, context=context) as edge:
        eventually(edge.is_up)
        assert edge.ask("/v2/models/m", X_Tenant="web").status == 429
        eventually(lambda: "strata_access_refusals_total{" in edge.metrics_text())
        socket = AdminSocket.of(edge.path.read_text())
        file = edge.path.with_name("edge.pem")
        before = shown(edge)
        for broken in ("", "garbage", first.certificate, first.certificate + second.key):
            assert socket.replace_certificate("cert", file, broken)
            assert shown(edge) == before
        assert socket.replace_certificate("cert", tmp_path / "none.pem", first.certificate)
        with_blank_lines = f"{second.certificate}\n\n{second.key}"
        assert socket.replace_certificate("cert", file, with_blank_lines) == ""
        assert shown(edge) != before


def shown(edge):
    with edge.connect() as connection:
        return connection.getpeercert()["serialNumber"]


def test_where_nobody_listens_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        AdminSocket(tmp_path / "none.sock")
    with pytest.raises(OSError, match="names no admin socket"):
        AdminSocket.of("global\n")
