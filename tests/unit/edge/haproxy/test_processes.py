"""An HAProxy that another one takes over from, and what it still knows of who may."""

import pytest

from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.agent import Agent
from serve.edge.haproxy.agent_metrics import AgentMetrics
from serve.edge.haproxy.processes import Processes
from serve.edge.haproxy.settings import SETTINGS_VARIABLE, EdgeSettings
from serve.edge.keys import dump_keys, new_key, new_secret
from tests.unit.edge.haproxy.running import Edge, response

SECRET = new_secret()
INDEX = f"GET /v2 HTTP/1.1\r\nHost: x\r\nX-API-Key: {SECRET}\r\n\r\n".encode()


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(dump_keys([new_key(SECRET, "web", scope="admin")]))
    return file


@pytest.fixture
def edge(tmp_path, keys, eventually):
    with Edge(tmp_path, access=EdgeSettings(keys=keys)) as running:
        eventually(running.is_up)
        yield running


def listening(edge):
    with AdminSocket.of(edge.path.read_text()) as socket:
        return int(socket.info()["Pid"])


def ask_again(connection):
    connection.sendall(INDEX)
    return response(connection).status


def pids(processes, edge):
    return [pid for pid, _ in processes.look(edge.path.read_text())]


def test_a_key_that_is_revoked_after_a_reload_is_so_on_connections_from_before(
    edge, keys, eventually, monkeypatch
):
    monkeypatch.setenv(SETTINGS_VARIABLE, str(edge.settings))
    agent = Agent(edge.path, AgentMetrics())
    agent.look()
    with edge.connect() as kept:
        assert ask_again(kept) not in (0, 401)
        edge.reload()
        eventually(lambda: listening(edge) == edge.process.pid)
        keys.write_text(dump_keys([]))
        agent.look()
        assert ask_again(kept) == 401


def test_one_that_was_replaced_is_let_go_with_its_last_connection(edge, eventually):
    processes = Processes()
    before = edge.process.pid
    assert pids(processes, edge) == [before]
    with edge.connect() as kept:
        assert ask_again(kept) > 0
        replaced = edge.reload()
        eventually(lambda: listening(edge) == edge.process.pid)
        assert pids(processes, edge) == [edge.process.pid, before]
        assert pids(processes, edge) == [edge.process.pid, before]
    eventually(lambda: pids(processes, edge) == [edge.process.pid])
    eventually(lambda: replaced.poll() is not None)


def test_one_that_is_killed_is_forgotten(edge, eventually):
    processes = Processes()
    pids(processes, edge)
    with edge.connect() as kept:
        assert ask_again(kept) > 0
        replaced = edge.reload()
        eventually(lambda: listening(edge) == edge.process.pid)
        replaced.kill()
        replaced.wait()
        assert pids(processes, edge) == [edge.process.pid]


def test_where_none_listens_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Processes().look(f"global\n    stats socket {tmp_path}/none.sock mode 600\n")
