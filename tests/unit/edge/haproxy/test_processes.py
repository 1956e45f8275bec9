"""An HAProxy that another one takes over from, and what it still knows of who may."""

import signal
from contextlib import suppress

import pytest
from reliability.stopped import stand_still

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


@pytest.fixture
def alone(tmp_path, eventually):
    """One without an agent, whose conversations would keep what was replaced, too."""
    with Edge(tmp_path) as running:
        eventually(running.is_up)
        yield running


def listening(edge):
    """Return the process that answers at the admin socket, none while one takes over."""
    with suppress(OSError), AdminSocket.of(edge.path.read_text()) as socket:
        return int(socket.info()["Pid"])


def ask_again(connection):
    connection.sendall(INDEX)
    return response(connection).status


def pids(processes, edge):
    listening, _ = processes.listening(edge.path.read_text())
    return [listening, *(pid for pid, _ in processes.replaced())]


def agent_of(edge, monkeypatch):
    monkeypatch.setenv(SETTINGS_VARIABLE, str(edge.settings))
    agent = Agent(edge.path, AgentMetrics())
    agent.look()
    return agent


def reload(edge, eventually):
    before = edge.reload()
    eventually(lambda: listening(edge) == edge.process.pid)
    return before


def require_that_what_is_replaced_hears(agent, edge, keys, eventually):
    with edge.connect() as kept:
        assert ask_again(kept) not in (0, 401)
        before = reload(edge, eventually)
        keys.write_text(dump_keys([]))

        def has_heard():  # one that takes long to answer is told the next time
            agent.look()
            return agent._pushed.get(before.pid, {}).get(agent._maps.keys) == {}

        eventually(has_heard)
        assert ask_again(kept) == 401


def test_a_key_that_is_revoked_after_a_reload_is_so_on_connections_from_before(
    edge, keys, eventually, monkeypatch
):
    agent = agent_of(edge, monkeypatch)
    require_that_what_is_replaced_hears(agent, edge, keys, eventually)


def test_one_that_listened_between_two_rounds_is_met(edge, keys, eventually, monkeypatch):
    agent = agent_of(edge, monkeypatch)
    reload(edge, eventually)
    agent.wait()
    require_that_what_is_replaced_hears(agent, edge, keys, eventually)


def test_one_that_hangs_is_told_when_it_goes_on_and_keeps_nobody_from_hearing(
    edge, keys, eventually, monkeypatch
):
    agent = agent_of(edge, monkeypatch)
    with edge.connect() as kept:
        assert ask_again(kept) not in (0, 401)
        before = reload(edge, eventually)
        agent.look()
        stand_still(before)
        keys.write_text(dump_keys([]))
        agent.look()
        assert edge.ask("/v2", X_API_Key=SECRET).status == 401
        agent.look()
        before.send_signal(signal.SIGCONT)
        eventually(lambda: agent.look() or before.pid in agent._pushed)
        assert ask_again(kept) == 401


def test_one_that_was_replaced_is_let_go_with_its_last_connection(alone, eventually):
    processes = Processes()
    before = alone.process.pid
    assert pids(processes, alone) == [before]
    with alone.connect() as kept:
        assert ask_again(kept) > 0
        replaced = reload(alone, eventually)
        assert pids(processes, alone) == [alone.process.pid, before]
        assert pids(processes, alone) == [alone.process.pid, before]
    eventually(lambda: pids(processes, alone) == [alone.process.pid])
    eventually(lambda: replaced.poll() is not None)


def test_one_that_is_killed_is_forgotten(alone, eventually):
    processes = Processes()
    pids(processes, alone)
    with alone.connect() as kept:
        assert ask_again(kept) > 0
        replaced = reload(alone, eventually)
        replaced.kill()
        replaced.wait()
        assert pids(processes, alone) == [alone.process.pid]


def test_where_none_listens_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Processes().listening(f"global\n    stats socket {tmp_path}/none.sock mode 600\n")
