"""Against a real Redis, which is killed, stands still and starts anew."""

import asyncio
import contextlib
import select
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve.quotas import redis_counts as module
from serve.quotas.count import NEVER
from serve.quotas.days import DAY_S
from serve.quotas.limits import COMPUTE, ROWS, Limit
from serve.quotas.local_counts import LocalCounts
from serve.quotas.redis_counts import RedisCounts
from tests.redis_server import RedisServer

ROOMY = 30.0  # seconds that a test waits for Redis on a machine that others use
WEB = Limit(ROWS, "web", None, 1000)
DAY = Limit(COMPUTE, "web", None, 5)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own(tmp_path):
    """A server of the test's own, not started."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@contextlib.asynccontextmanager
async def counting(server, timeout_s=ROOMY, password=None):
    counts = RedisCounts(server.url, password, timeout_s)
    await counts.look()
    try:
        yield counts
    finally:
        await counts.close()


def run(scenario, *servers, **options):
    async def opened():
        async with contextlib.AsyncExitStack() as stack:
            found = [await stack.enter_async_context(counting(s, **options)) for s in servers]
            return await scenario(*found)

    return asyncio.run(opened())


def set_by_test(monkeypatch):
    """Have the scripts read the time from a key, which `at` sets."""
    for name in ("_TAKE", "_SETTLE"):
        script = getattr(module, name)
        told = script.replace("redis.call('TIME')", "redis.call('LRANGE', 'time', 0, 1)")
        assert told != script
        monkeypatch.setattr(module, name, told)


async def at(counts, now):
    seconds = int(now)
    await counts._client.delete("time")
    await counts._client.rpush("time", seconds, round((now - seconds) * 1e6))


def test_all_replicas_together_have_what_one_has(server, monkeypatch):
    set_by_test(monkeypatch)
    limit = Limit(ROWS, "together", "m", 50)

    async def scenario(*replicas):
        await at(replicas[0], 1000.0)
        answers = await asyncio.gather(*(each.take([limit], 1) for each in replicas * 40))
        return sum(not count.wait_s for (count,) in answers)

    assert run(scenario, server, server, server) == 50


def test_rows_are_taken_of_all_limits_or_of_none(server):
    wide, narrow = Limit(ROWS, "both", None, 1_000_000), Limit(ROWS, "both", "m", 0)

    async def scenario(counts):
        await counts.take([wide], 10)
        refused = await counts.take([wide, narrow], 500_000)
        assert [count.wait_s for count in refused] == [0, NEVER]
        (count,) = await counts.take([wide], 600_000)
        return count

    assert not run(scenario, server).wait_s


def test_rows_that_come_back_can_be_taken_again(server, monkeypatch):
    set_by_test(monkeypatch)
    limit = Limit(ROWS, "back", None, 10)

    async def scenario(counts):
        await at(counts, 1000.0)
        await counts.take([limit], 10)
        counts.give_back([limit, DAY], 7)
        await counts._trips
        return [(await counts.take([limit], rows))[0].wait_s for rows in (8, 7)]

    assert run(scenario, server) == [pytest.approx(0.1), 0]


def test_seconds_are_spent_in_all_replicas_once_they_are_told(server):
    limit = Limit(COMPUTE, "spent", None, 5)

    async def scenario(one, other):
        (first,) = await one.take([limit], 1)
        assert (first.left, first.wait_s) == (5, 0)
        one.charge([limit, WEB], 3)
        one.charge([limit], 2.5)
        await one.take([limit], 1)
        await one._trips
        (count,) = await other.take([limit], 1)
        return count

    count = run(scenario, server, server)
    assert count.left == pytest.approx(-0.5)
    assert 0 < count.wait_s == count.fresh_s <= DAY_S


steps = st.lists(
    st.tuples(st.floats(-0.5, 1.5).map(lambda s: round(s, 3)), st.integers(0, 30), st.booleans()),
    max_size=12,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.integers(0, 20), st.integers(0, 3))
def test_redis_counts_as_a_replica_alone_does(server, monkeypatch, steps, amount, seconds):
    with monkeypatch.context() as patched:
        set_by_test(patched)
        limits = [Limit(ROWS, "same", None, amount), Limit(COMPUTE, "same", "m", seconds)]
        now = 20_000.0 * DAY_S + 1000

        async def scenario(counts):
            nonlocal now
            await counts._client.flushall()
            local = LocalCounts(lambda: now, lambda: now)
            now += 10
            for waited, rows, spends in steps:
                now += waited
                await at(counts, now)
                here, there = local.take(limits, rows), await counts.take(limits, rows)
                for one, other in zip(here, there, strict=True):
                    assert one.left == pytest.approx(other.left, abs=1e-3)
                    assert one.wait_s == pytest.approx(other.wait_s, abs=1e-3)
                    assert one.fresh_s == pytest.approx(other.fresh_s, abs=1e-3)
                if spends:
                    local.charge(limits, 0.75)
                    counts.charge(limits, 0.75)
                    await counts._trips

        run(scenario, server)


def test_what_comes_during_a_round_trip_shares_the_next_one(server):
    async def scenario(counts):
        before = (await counts._client.info("stats"))["total_reads_processed"]
        answers = await asyncio.gather(*(counts.take([WEB], 1) for _ in range(500)))
        assert all(count.left >= 0 for (count,) in answers)
        return (await counts._client.info("stats"))["total_reads_processed"] - before

    assert run(scenario, server) < 50


def test_a_client_that_hangs_up_disturbs_nobody(server):
    async def scenario(counts):
        gone = [asyncio.create_task(counts.take([WEB], 1)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in gone[::2]:
            task.cancel()
        answers = await asyncio.gather(*gone, return_exceptions=True)
        assert [isinstance(a, asyncio.CancelledError) for a in answers] == [1, 0, 1, 0, 1]
        return await counts.take([WEB], 1)

    assert run(scenario, server)


def test_a_redis_that_is_not_there_is_found_when_it_comes(own):
    async def scenario(counts):
        assert not counts.is_here
        assert await counts.take([WEB], 1) is None
        await counts.look()
        assert await counts.take([WEB], 1) is None
        await asyncio.to_thread(own.start)
        await counts.look()
        return await counts.take([WEB], 1)

    assert run(scenario, own)


def test_a_redis_that_is_killed_is_missed_once_and_what_is_owed_is_told_when_it_is_back(own):
    async def scenario(counts):
        assert await counts.take([WEB, DAY], 1)
        await asyncio.to_thread(own.kill)
        counts.charge([DAY], 2.0)
        assert await counts.take([WEB, DAY], 1) is None
        assert not counts.is_here
        await counts.look()
        assert not counts.is_here
        counts.charge([DAY], 1.0)
        await asyncio.to_thread(own.start)  # and knows no script any more
        await counts.look()
        await counts._trips
        return await counts.take([DAY], 1)

    own.start()
    (count,) = run(scenario, own)
    assert count.left == pytest.approx(2.0)


def test_a_redis_that_stands_still_is_waited_for_once_and_nobody_waits_after_that(own):
    async def scenario(counts):
        own.pause()
        assert await counts.take([WEB], 1) is None
        asked = [await counts.take([WEB], 1) for _ in range(1000)]
        assert asked == [None] * 1000
        own.go_on()
        while not counts.is_here:
            await counts.look()
        counts._timeout_s = ROOMY
        return await counts.take([WEB], 1)

    own.start()
    assert run(scenario, own, timeout_s=0.05)


def test_seconds_whose_answer_was_lost_are_told_again_and_count_once(own, monkeypatch):
    monkeypatch.setattr(module, "_GIVEN_UP_S", 0.2)

    async def scenario(counts, other):
        while not counts.is_here:
            await counts.look()
        for _ in range(3):
            own.pause()
            counts.charge([DAY], 0.5)
            await counts._trips  # it was sent, and Redis will read it once it goes on
            assert not counts.is_here
            own.go_on()
            while counts._told or counts._owed:
                await counts.look()
                await counts._trips
        while True:  # a machine that takes long to answer is asked again
            while not other.is_here:
                await other.look()
            if taken := await other.take([DAY], 1):
                return taken

    own.start()
    (count,) = run(scenario, own, own)
    assert count.left == pytest.approx(3.5)


def test_a_redis_that_answers_and_takes_nothing_is_one_that_is_away(own):
    async def scenario(counts):
        await counts._client.replicaof("127.0.0.1", 1)  # it can only be read from now on
        assert await counts.take([WEB], 1) is None
        await counts.look()
        assert not counts.is_here
        await counts._client.replicaof("NO", "ONE")
        await counts.look()
        return await counts.take([WEB], 1)

    own.start()
    assert run(scenario, own)


def test_an_answer_that_is_here_counts_though_the_loop_was_busy(server):
    async def scenario(counts):
        counts._timeout_s = ROOMY
        await counts.take([WEB], 1)  # it has the script
        counts._timeout_s = 0.02
        asked = asyncio.create_task(counts.take([WEB], 1))
        for _ in range(3):  # it is on its way
            await asyncio.sleep(0)
        (connection,) = counts._client.connection_pool._in_use_connections
        socket = connection._writer.get_extra_info("socket")
        assert select.select([socket], [], [], 60)[0], "no answer came"
        time.sleep(0.05)  # and the loop was busy for longer than an answer may take
        return await asked

    assert run(scenario, server)


def test_a_redis_that_refuses_is_one_that_is_away(tmp_path):
    with RedisServer(tmp_path, "--requirepass", "right") as server:

        async def ask(counts):
            return await counts.take([WEB], 1)

        assert run(ask, server, password="wrong") is None
        assert run(ask, server) is None
        assert run(ask, server, password="right")


def test_whatever_a_trip_raises_whoever_waits_is_told(server, monkeypatch):
    async def scenario(counts):
        async def broken(*_):
            raise ZeroDivisionError("a fault of ours")

        monkeypatch.setattr(counts, "_answers", broken)
        answers = await asyncio.gather(*(counts.take([WEB], 1) for _ in range(3)))
        assert not counts.is_here
        return answers

    assert run(scenario, server) == [None, None, None]


def test_nothing_stays_in_redis_for_longer_than_it_counts(server):
    limits = [Limit(ROWS, "stays", None, 5), Limit(COMPUTE, "stays", None, 5)]

    async def scenario(counts):
        await counts.take(limits, 1)
        counts.charge(limits, 1.0)
        await counts._trips
        return [await counts._client.pttl(limit.key) for limit in limits]

    rows, seconds = run(scenario, server)
    assert 0 < rows <= 2000 or rows == -2, "it is gone already"
    assert DAY_S * 1000 < seconds <= 2 * DAY_S * 1000
