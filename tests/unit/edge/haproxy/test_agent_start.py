"""The agent's process beside an HAProxy: one for each configuration, and another when it ends."""

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from serve.edge.haproxy.agent_start import lock_file, log_file, ready_file, require_agent
from serve.edge.haproxy.settings import EdgeSettings
from serve.edge.keys import dump_keys
from serve.errors import ConfigError
from tests.unit.edge.haproxy.rays import application, write


def processes(configuration):
    """Return the processes that are of a configuration's agent: who looks after it is first."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if os.fsencode(configuration) in command and state != "Z":
                found.append(int(entry.name))
    return sorted(found)


def is_held(lock):
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def configuration(tmp_path, monkeypatch, eventually):
    keys = tmp_path / "keys.json"
    keys.write_text(dump_keys([]))
    settings = tmp_path / "edge.json"
    settings.write_text(EdgeSettings(keys=keys).to_json())
    monkeypatch.setenv("STRATA_EDGE_SETTINGS", str(settings))
    path = write(tmp_path, application("gateway", 1))
    yield path
    for pid in processes(path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes(path))


def test_it_has_written_the_maps_when_it_is_there(configuration):
    require_agent(configuration)
    assert ready_file(configuration).exists()
    assert configuration.with_name("haproxy.cfg.keys.map").exists()


def test_a_second_start_finds_the_first(configuration):
    require_agent(configuration)
    before = processes(configuration)
    require_agent(configuration)
    assert processes(configuration) == before
    assert len(before) == 2


def test_an_agent_that_ends_is_followed_by_another(configuration, eventually):
    require_agent(configuration)
    parent, child = processes(configuration)
    os.kill(child, signal.SIGKILL)
    eventually(lambda: len(set(processes(configuration)) - {child}) == 2)
    assert parent in processes(configuration)


def test_where_who_looks_after_it_is_killed_too_the_next_start_makes_both(
    configuration, eventually
):
    require_agent(configuration)
    for pid in processes(configuration):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not processes(configuration) and not is_held(lock_file(configuration)))
    require_agent(configuration)
    eventually(lambda: len(processes(configuration)) == 2)


def test_it_ends_with_its_configuration(configuration, eventually):
    require_agent(configuration)
    configuration.unlink()
    eventually(lambda: not processes(configuration))


def test_one_that_does_not_start_is_told_with_what_it_said(configuration, monkeypatch, tmp_path):
    (tmp_path / "edge.json").write_text("{")
    monkeypatch.setattr("serve.edge.haproxy.agent_start._TIMEOUT_S", 0.0)
    lock_file(configuration).touch()
    log_file(configuration).write_text("the last line\n")
    with pytest.raises(ConfigError, match="the edge's agent did not start: the last line"):
        require_agent(configuration)
