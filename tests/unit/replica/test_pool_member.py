"""A model of a pool: when it may leave, and who waits for it."""

import asyncio
from types import SimpleNamespace

import pytest

from serve.replica.pool_member import Member


def _member():
    model = SimpleNamespace(versions={})
    servable = SimpleNamespace(name="m", model=model, endpoint=SimpleNamespace(in_flight=0))
    return Member(servable, {}, {})


def test_who_waits_goes_on_once_it_has_come_and_waits_again_once_it_has_left():
    async def scenario():
        member = _member()
        waits = asyncio.create_task(member.has_come.wait())
        await asyncio.sleep(0)
        assert not waits.done()
        member.come()
        await waits
        assert member.leaves()
        return member.is_in, member.has_come.is_set(), member.was_tried

    assert asyncio.run(scenario()) == (False, False, True)


@pytest.mark.parametrize("busy", ["in_flight", "calls", "waiting"])
def test_one_that_has_requests_does_not_leave(busy):
    member = _member()
    member.come()
    setattr(member.servable.endpoint if busy == "in_flight" else member, busy, 1)
    assert not member.leaves()
    assert member.is_in
