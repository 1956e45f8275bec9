"""The maps and tables of an HAProxy that runs."""

from pathlib import Path

import pytest

from serve.edge.haproxy.access import Maps
from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.settings import EdgeSettings, RequestQuota
from tests.unit.edge.haproxy.running import Edge


@pytest.fixture(scope="module")
def edge(tmp_path_factory, eventually):
    access = EdgeSettings(quotas=(RequestQuota("web", None, 1, None),))
    with Edge(tmp_path_factory.mktemp("edge"), access=access) as running:
        eventually(running.is_up)
        yield running


def test_a_map_is_made_what_is_wanted(edge):
    socket, pools = AdminSocket.of(edge.path.read_text()), Maps.beside(edge.path).pools
    many = {f"model-{number}": f"pool|{number}" for number in range(1000)}
    changed = {**many, "model-7": "another", "new": "one"}
    del changed["model-8"]
    for wanted in (many, changed, {}):
        socket.make(pools, wanted)
        assert socket.entries(pools) == wanted


def test_it_says_which_process_it_is_of(edge):
    pid = AdminSocket.of(edge.path.read_text()).pid()
    assert b"haproxy" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_table_without_rows_has_no_counts(edge):
    assert AdminSocket.of(edge.path.read_text()).counts("strata_refused") == {}


def test_where_nobody_listens_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        AdminSocket(tmp_path / "none.sock").pid()
    with pytest.raises(OSError, match="names no admin socket"):
        AdminSocket.of("global\n")
