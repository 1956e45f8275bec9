import asyncio
import os
import time

import pytest

from serve.replica import pod_readiness
from serve.replica.pod_readiness import READY_MARK, pod_was_ready
from tests.unit.replica.fakes import until


@pytest.fixture
def mark(tmp_path, monkeypatch):
    path = tmp_path / "ready"
    monkeypatch.setenv(READY_MARK, str(path))
    monkeypatch.setattr(pod_readiness, "_LOOK_EACH_S", 0.001)
    return path


def _made_long_ago(path):
    path.touch()
    long_ago = time.time() - 60
    os.utime(path, (long_ago, long_ago))


def test_without_a_probe_that_marks_there_is_nothing_to_wait_for(monkeypatch):
    monkeypatch.delenv(READY_MARK, raising=False)
    monkeypatch.setattr(pod_readiness.asyncio, "sleep", None)
    asyncio.run(pod_was_ready())


def test_a_pod_that_was_ready_before_is_not_waited_for(mark, monkeypatch):
    _made_long_ago(mark)
    monkeypatch.setattr(pod_readiness.asyncio, "sleep", None)
    asyncio.run(pod_was_ready())


def test_a_new_pod_is_waited_for_until_it_has_been_ready_for_a_moment(mark, monkeypatch):
    looks = []
    is_told = pod_readiness._is_told
    monkeypatch.setattr(pod_readiness, "_is_told", lambda path: looks.append(path) or is_told(path))

    async def scenario():
        waiting = asyncio.create_task(pod_was_ready())
        await until(lambda: len(looks) > 2)
        assert not waiting.done()
        in_an_hour = time.time() + 3600  # just made, on however slow a machine
        mark.touch()
        os.utime(mark, (in_an_hour, in_an_hour))
        before = len(looks)
        await until(lambda: len(looks) > before + 2)
        assert not waiting.done()
        _made_long_ago(mark)
        await asyncio.wait_for(waiting, 60)

    asyncio.run(scenario())


def test_a_model_runs_in_a_pod_that_never_gets_ready_and_says_so(mark, monkeypatch, caplog):
    monkeypatch.setattr(pod_readiness, "_PATIENCE_S", 0.01)
    asyncio.run(pod_was_ready())
    assert "kubectl describe pod" in caplog.text
