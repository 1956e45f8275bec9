"""What is repeated beside the requests goes on, and what has ended is told."""

import asyncio
import logging

import pytest

from serve.errors import ModelNotReady, RepositoryError
from serve.replica import tasks
from serve.replica.tasks import Tasks
from serve.telemetry.faults import Faults
from tests.unit.replica.fakes import until


@pytest.mark.parametrize("error", [RepositoryError("away"), ModelNotReady("away")])
def test_what_is_repeated_goes_on_after_an_error_that_is_logged_once(caplog, error):
    outcomes = [error, error, None, error, RepositoryError("elsewhere"), error]
    done = asyncio.Event()

    async def action():
        if not outcomes:
            done.set()
            return
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    async def scenario():
        task = asyncio.create_task(tasks.repeat(action, 0))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    with caplog.at_level(logging.WARNING, "ray.serve"):
        asyncio.run(scenario())
    said = [record.getMessage() for record in caplog.records]
    assert said == ["away", "away", "elsewhere"]


def test_a_task_goes_on_whatever_it_raises_and_each_kind_is_said_once(caplog):
    faults = Faults("task", "a task")
    rounds = 0
    done = asyncio.Event()

    async def action():
        nonlocal rounds
        rounds += 1
        if rounds > 5:
            done.set()
        raise [ZeroDivisionError("injected"), OSError(28, "No space")][rounds % 2]

    async def scenario():
        task = asyncio.create_task(tasks.repeat(action, 0, faults))
        await asyncio.wait_for(done.wait(), 30)
        task.cancel()

    asyncio.run(scenario())
    assert faults.take() >= 5
    assert 1 <= caplog.text.count("said once") <= 2


def test_a_task_is_begun_once_and_told_of_when_it_has_ended():
    done = []

    async def action():
        done.append(1)

    async def scenario():
        running = Tasks("the thing")
        for _ in range(2):
            running.start("work", action, 0)
        await until(lambda: len(done) > 3)
        running.require_running()
        (task,) = running.running.values()
        running.stop()
        await asyncio.wait([task])
        with pytest.raises(ModelNotReady, match="the thing: the background task 'work' has ended"):
            running.require_running()

    asyncio.run(scenario())
