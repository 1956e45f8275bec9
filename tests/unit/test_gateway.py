"""What the gateway knows of applications, without a platform."""

import asyncio
import threading
from types import SimpleNamespace

from serve import gateway as gateway_module
from serve.gateway import Gateway


def test_requests_that_come_together_all_see_the_new_states(monkeypatch):
    told, calls = threading.Event(), []

    def status():
        calls.append(1)
        told.wait(5)
        application = SimpleNamespace(status="RUNNING")
        return SimpleNamespace(applications={"digits": application})

    monkeypatch.setattr(gateway_module.ray_serve, "status", status)

    async def ask():
        gateway = Gateway()
        waiting = [asyncio.create_task(gateway._application_states()) for _ in range(3)]
        await asyncio.sleep(0)
        told.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(ask()) == [{"digits": "RUNNING"}] * 3
    assert len(calls) == 1
