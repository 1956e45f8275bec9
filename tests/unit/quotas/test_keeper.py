import asyncio

import pytest

from serve.errors import CountsAway, OverQuota
from serve.quotas.keeper import Keeper
from serve.quotas.ledger import REMEMBERED_S, Ledger
from tests.redis_server import RedisServer

WEB = {b"x-tenant": b"web"}
ROOMY = 5.0


class Replica:
    """A keeper that reports to a gateway's ledger, and whose replica was started long ago."""

    def __init__(self, ledger=None, name="r", models=("m",)):
        self.keeper = Keeper(name, self._tell)
        self.ledger, self.models, self.reports = ledger, list(models), []
        self.keeper.local._born -= 10

    async def _tell(self, report):
        self.reports.append(report)
        return None if self.ledger is None else self.ledger.take(report)

    async def takes(self, quotas, counts=(), replicas=(1, 1)):
        most = dict(zip(("model", "all"), replicas, strict=True))
        settings = {"quotas": quotas, "counts": dict(counts), "replicas": most}
        await self.keeper.apply(settings, self.models, "X-Tenant")

    async def lets(self, rows=1, model="m", headers=None):
        """Tell whether a request is let through."""
        account = self.keeper.of(model).account(WEB if headers is None else headers)
        try:
            if account is not None:
                await account.admit(rows)
        except OverQuota:
            return False
        return True


def old_ledger():
    ledger = Ledger()
    ledger._began -= REMEMBERED_S
    return ledger


def test_without_settings_there_is_nothing_to_ask_and_nobody_is_told():
    async def scenario():
        replica = Replica()
        await replica.keeper.apply(None, ["m"], "x-tenant")
        await replica.keeper.tick()
        assert replica.keeper.of("m") is None
        assert replica.reports == []

    asyncio.run(scenario())


def test_quotas_come_change_and_go_in_place_and_what_was_spent_stays():
    async def scenario():
        replica = Replica()
        await replica.takes([{"compute_s_per_day": 2}])
        replica.keeper.of("m").account(WEB).charge(2.5)
        assert not await replica.lets()
        await replica.takes([{"compute_s_per_day": 3}])
        assert await replica.lets()
        await replica.takes([{"tenant": "web", "compute_s_per_day": 2.4}])
        assert not await replica.lets()
        assert await replica.lets(headers={})
        await replica.keeper.apply(None, ["m"], "x-tenant")
        assert replica.keeper.of("m") is None

    asyncio.run(scenario())


def test_the_tenant_is_who_the_configured_header_says():
    async def scenario():
        replica = Replica()
        quotas = [{"tenant": "web", "rows_per_s": 0}]
        settings = {"quotas": quotas, "counts": {}, "replicas": {}}
        await replica.keeper.apply(settings, ["m"], "X-Customer")
        return await replica.lets(), await replica.lets(headers={b"x-customer": b"web"})

    assert asyncio.run(scenario()) == (True, False)


def test_models_of_a_pool_have_a_quota_of_all_models_in_common_and_their_own_apart():
    async def scenario():
        replica = Replica(models=("m", "n", "free"))
        all_models, own = {"rows_per_s": 10}, {"model": "m", "rows_per_s": 1_000}
        await replica.takes([all_models, own])
        assert await replica.lets(6, "m")
        assert not await replica.lets(6, "n")
        await replica.takes([own])
        assert replica.keeper.of("n") is None
        assert await replica.lets(500, "m")

    asyncio.run(scenario())


def test_a_limit_is_divided_by_the_most_replicas_until_it_is_known_how_many_there_are():
    async def scenario():
        quotas = [{"rows_per_s": 100}, {"model": "m", "rows_per_s": 100}]
        replica = Replica(Ledger())
        await replica.takes(quotas, replicas=(4, 20))
        assert (replica.keeper.local.replicas("m"), replica.keeper.local.replicas(None)) == (4, 20)
        ledger = old_ledger()
        one, other = Replica(ledger, "one"), Replica(ledger, "other")
        for each in (one, other, one):
            await each.takes(quotas, replicas=(4, 20))
        assert (one.keeper.local.replicas("m"), one.keeper.local.replicas(None)) == (2, 2)

    asyncio.run(scenario())


def test_replicas_spend_one_quota_of_seconds_without_a_redis():
    async def scenario():
        ledger = old_ledger()
        one, other = Replica(ledger, "one"), Replica(ledger, "other")
        for each in (one, other):
            await each.takes([{"compute_s_per_day": 2}])
        one.keeper.of("m").account(WEB).charge(2.5)
        assert await other.lets(), "it has not heard of it yet"
        for each in (one, other):
            await each.keeper.tick()
        assert not await other.lets()

    asyncio.run(scenario())


def test_a_gateway_that_raises_loses_nothing():
    async def scenario():
        replica = Replica(old_ledger())
        await replica.takes([{"compute_s_per_day": 2}])
        replica.keeper.of("m").account(WEB).charge(1.5)
        tell, replica.keeper._tell_gateway = replica.keeper._tell_gateway, None
        with pytest.raises(TypeError):
            await replica.keeper.tick()
        replica.keeper._tell_gateway = tell
        await replica.keeper.tick()
        return [own for own, _ in replica.reports[-1].spent.values()]

    assert asyncio.run(scenario()) == [1.5]


def test_quotas_hold_though_the_gateway_cannot_be_told_of_them():
    async def scenario():
        replica = Replica(old_ledger())
        replica.keeper._tell_gateway = None
        await replica.takes([{"rows_per_s": 2}])
        return [await replica.lets(2), await replica.lets(2)]

    assert asyncio.run(scenario()) == [True, False]


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


def test_what_redis_counted_is_known_to_all_and_to_each_when_redis_goes(server):
    async def scenario():
        ledger = old_ledger()
        counts = {"redis": server.url, "timeout_s": 5.0}
        one, other = Replica(ledger, "one"), Replica(ledger, "other")
        for each in (one, other):
            await each.takes([{"compute_s_per_day": 2}], counts)
        account = one.keeper.of("m").account(WEB)
        await account.admit(1)
        assert account.is_shared
        account.charge(2.5)
        await one.keeper.shared._trips
        assert not await other.lets()
        await asyncio.to_thread(server.kill)
        for each in (one, other, one):
            await each.keeper.tick()
        account = other.keeper.of("m").account(WEB)
        with pytest.raises(OverQuota):
            await account.admit(1)
        assert not account.is_shared
        await asyncio.gather(*(each.keeper.shared.close() for each in (one, other)))

    asyncio.run(scenario())


def test_refuse_lets_nobody_through_whom_redis_did_not_count(server):
    async def scenario():
        replica = Replica()
        counts = {"redis": server.url, "timeout_s": 5.0, "when_uncounted": "refuse"}
        quotas = [{"tenant": "web", "rows_per_s": 10**6}]
        await replica.takes(quotas, counts)
        assert await replica.lets()
        await asyncio.to_thread(server.kill)
        with pytest.raises(CountsAway):
            await replica.lets()
        assert await replica.lets(headers={b"x-tenant": b"lab"}), "who has no quota"
        await replica.takes(quotas, {**counts, "when_uncounted": "allow"})
        assert await replica.lets()
        await asyncio.to_thread(server.start)
        await replica.keeper.tick()
        account = replica.keeper.of("m").account(WEB)
        await account.admit(1)
        assert account.is_shared
        account.give_back()
        await replica.takes(quotas)
        assert replica.keeper.shared is None

    asyncio.run(scenario())


def test_the_password_comes_from_the_environment(tmp_path, monkeypatch):
    async def scenario():
        replica = Replica()
        await replica.takes([{"rows_per_s": 9}], {"redis": server.url, "timeout_s": ROOMY})
        is_here = replica.keeper.shared.is_here
        await replica.keeper.shared.close()
        return is_here

    with RedisServer(tmp_path, "--requirepass", "right") as server:
        assert not asyncio.run(scenario())
        monkeypatch.setenv("STRATA_COUNTS_PASSWORD", "right")
        assert asyncio.run(scenario())


def test_another_redis_counts_though_the_one_before_cannot_be_let_go(server, monkeypatch):
    async def scenario():
        replica = Replica(old_ledger())
        await replica.takes([{"rows_per_s": 2}], {"redis": "redis://127.0.0.1:1/0"})

        async def stalled():
            raise TimeoutError("the connection does not close")

        monkeypatch.setattr(replica.keeper.shared._client, "aclose", stalled)
        await replica.takes([{"rows_per_s": 2}], {"redis": server.url, "timeout_s": ROOMY})
        assert replica.keeper.shared.is_here
        await replica.keeper.shared.close()

    asyncio.run(scenario())
