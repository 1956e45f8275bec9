"""The models of a pool's replica come, change, rest and go, and none of them concerns another."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from serve.edge.http import HttpRequest
from serve.errors import ModelNotReady
from serve.quotas.keeper import Keeper
from serve.replica import pool_members, pool_memory, watched_model
from tests.unit.replica.fakes import Held, fetch, infer_request, scope_of, until


@pytest.fixture
def rss(monkeypatch, models):
    """The memory of the process: 100 bytes, and 10 for each engine that is open."""
    told = SimpleNamespace(base=100)

    def resident_bytes():
        return told.base + 10 * sum(not engine.is_closed for engine in models.engines)

    for module in (pool_memory, pool_members):
        monkeypatch.setattr(module, "resident_bytes", resident_bytes)
    monkeypatch.setattr(pool_memory, "_RESIDENCE_S", 0.0)
    monkeypatch.setattr(pool_members, "_ROOM_PERIOD_S", 0.001)
    return told


def _loaded(running):
    return {name for name in running.members.by_name if running.model(name).versions}


async def _no_reporter():
    return None


def test_calls_take_one_core_each_and_the_pools_cores_are_for_the_models_side_by_side(models, run):
    models.put("a", 1)

    async def use(running):
        await running.take("a")
        (options,) = [options for _, options in models.loaded]
        return options.num_threads, running.members._turns.threads._max_workers

    assert run(use, ray_actor_options={"num_cpus": 3}) == (1, 3)


def test_a_model_that_cannot_be_loaded_is_told_to_those_who_ask_and_to_nobody_else(models, run):
    models.put("a", 1)
    models.put("broken", 1, is_broken=True)

    async def use(running):
        await running.take("broken", "a", "absent")
        assert await running.y("a", 1) == [2]
        for name, said in (("broken", "broken/1 cannot be read"), ("absent", "no folder 'absent'")):
            status, headers, body = await running.ask(name, 1)
            assert (status, headers[b"retry-after"]) == (503, b"1")
            assert said in json.loads(body)["error"]
            assert said in running.members.describe()[name]["reason"]
        running.members.require_healthy()
        models.put("broken", 1, factor=3)
        await until(lambda: running.model("broken").versions)
        return await running.y("broken", 1)

    assert run(use, poll_interval_s=0.001) == [3]


def test_models_come_and_go_and_the_others_keep_their_engines(models, run):
    for name in "abc":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b")
        kept = running.model("a").versions[1].engine
        gone = running.model("b").versions[1].engine
        await running.take("a", "c")
        assert await running.y("c", 1) == [2]
        await until(lambda: gone.is_closed)
        assert (await running.ask("b", 1))[0] == 404
        return running.model("a").versions[1].engine is kept, len(running.members.by_name)

    assert run(use) == (True, 2)


def test_labels_policy_and_accounts_change_in_place(models, run):
    models.put("a", 1, factor=10)
    models.put("a", 2)

    async def use(running):
        await running.take("a")
        before = running.model("a")
        both = {"name": "a", "version_policy": {"all": True}, "version_labels": {"old": 1}}
        await running.take(both, "b", tenants={"names": ["ada"]})
        assert running.model("a") is before
        path = "/v2/models/a/labels/old/infer"
        response = await running.pool.respond("a", infer_request(1, path=path, x_tenant="ada"))
        assert json.loads(response.body)["outputs"][0]["data"] == [10]
        await running.members.by_name["a"].servable.sample()
        recorder = running.members.by_name["a"].servable.recorder
        assert recorder.gauges[("model_reserved_cpus",)] == 0.5
        return recorder.value("model_requests", code="200", tenant="ada")

    assert run(use) == 1


def test_a_changed_model_serves_as_it_was_until_it_is_loaded_anew(models, run, monkeypatch):
    models.put("a", 1)
    held = Held("warmup")

    async def use(running):
        await running.take("a")
        before = running.model("a")
        monkeypatch.setattr(watched_model, "load", lambda folder, options, tried: held)
        change = {"name": "a", "limits": {"max_body_bytes": 10}}
        taking = asyncio.create_task(running.take(change))
        await asyncio.to_thread(held.entered.wait)
        assert await running.y("a", 1) == [2]
        assert running.model("a") is before
        held.goes_on.set()
        await taking
        assert running.model("a") is not before
        return (await running.ask("a", 1))[0]

    assert run(use) == 413


def test_a_change_that_cannot_be_loaded_leaves_what_is_served(models, run, monkeypatch):
    monkeypatch.setattr(pool_members, "_CATCH_UP_PERIOD_S", 0.001)
    models.put("a", 1)

    async def use(running):
        await running.take("a")
        models.put("a", 1, is_broken=True)
        await running.take({"name": "a", "limits": {"max_body_bytes": 10}})
        assert await running.y("a", 1) == [2]
        assert "cannot be read" in running.members.describe()["a"]["failures"][1]
        await running.take("a")  # the change is taken back
        assert await running.y("a", 1) == [2]
        assert running.members.describe()["a"]["failures"] == {}
        await running.take({"name": "a", "limits": {"max_body_bytes": 10}})
        models.put("a", 1)
        (coming,) = running.members._coming.values()
        coming.servable.model._failures.forget(1)  # as its time would come
        await until(lambda: not running.members._coming)
        return (await running.ask("a", 1))[0]

    assert run(use) == 413


def test_above_the_bound_the_model_that_was_not_asked_for_longest_rests(models, run, rss):
    for name in "abc":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b", "c")
        for name in "bca":
            await running.y(name, 1)
        config = running.user_config("a", "b", "c")
        config["max_memory_bytes"] = 125
        await running.members.take(config, _no_reporter)
        await until(lambda: _loaded(running) == {"a", "c"})
        assert running.members.describe()["b"]["resting"] == [1]
        await running.members._sample()
        assert running.counted("pool_unloads") == 1
        gauges = dict(running.members._recorder.gauges)  # before the next one is taken
        assert await running.y("b", 2) == [4]
        assert _loaded(running) == {"a", "b"}  # c was not asked for longest
        return gauges

    gauges = run(use)
    assert gauges[("pool_memory_limit_bytes",)] == 125
    assert gauges["pool_models", ("state", "loaded")] == 2
    assert gauges["pool_models", ("state", "resting")] == 1


def test_models_that_find_no_room_at_the_start_rest_until_they_are_asked_for(models, run, rss):
    for name in "abc":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b", "c")
        assert len(_loaded(running)) == 1
        assert running.pool.in_flight == 0
        status, _, _ = await fetch(running.pool, HttpRequest("GET", "/v2/models/c/ready", {}))
        assert status == 200
        assert len(_loaded(running)) == 1
        return [await running.y(name, 1) for name in "cabcab"]

    assert run(use, max_memory_bytes=1) == [[2]] * 6


def test_one_that_finds_no_room_in_time_is_told_so_and_when_to_come_back(
    models, run, rss, monkeypatch
):
    monkeypatch.setattr(pool_memory, "_RESIDENCE_S", 1e6)
    for name in "ab":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b")
        (resting,) = {"a", "b"} - _loaded(running)
        return await running.ask(resting, 1, grpc_timeout="50m")

    status, headers, body = run(use, max_memory_bytes=1)
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert "no room for it beside the models that are in use" in json.loads(body)["error"]


def test_a_request_that_comes_while_its_model_is_to_rest_keeps_it(models, run, rss, monkeypatch):
    for name in "ab":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b")
        victim = running.members.by_name["a"]
        async with victim.servable.model._changing:  # a look that takes its time
            resting = asyncio.create_task(running.members._rest(victim))
            await asyncio.sleep(0)
            victim.calls += 1
        await resting
        assert victim.is_in
        return await running.y("a", 1)

    assert run(use) == [2]


def test_no_more_requests_wait_for_a_model_than_for_its_engine(models, run, rss, monkeypatch):
    monkeypatch.setattr(pool_memory, "_RESIDENCE_S", 1e6)
    for name in "ab":
        models.put(name, 1)

    async def use(running):
        one = {"limits": {"max_queued_requests": 1}}
        await running.take({"name": "a", **one}, {"name": "b", **one})
        (resting,) = {"a", "b"} - _loaded(running)
        both = (running.ask(resting, 1, grpc_timeout="200m") for _ in range(2))
        return sorted(status for status, _, _ in await asyncio.gather(*both))

    assert run(use, max_memory_bytes=1) == [429, 503]


def test_a_task_that_has_ended_makes_the_replica_unhealthy(models, run):
    models.put("a", 1)

    async def use(running):
        await running.take("a")
        running.members.require_healthy()
        running.members.tasks.running["room"].cancel()
        await asyncio.wait([running.members.tasks.running["room"]])
        with pytest.raises(ModelNotReady, match="pool 'small': the background task 'room'"):
            running.members.require_healthy()

    run(use)


def test_a_start_that_takes_too_long_is_gone_on_with_behind_the_requests(models, run, monkeypatch):
    monkeypatch.setattr(pool_members, "_LONGEST_START_S", 0.01)
    held = Held("warmup")
    monkeypatch.setattr(watched_model, "load", lambda folder, options, tried: held)
    models.put("a", 1)

    async def use(running):
        await running.take("a")
        assert running.members.describe()["a"]["reason"] == "it is being loaded"
        asked = asyncio.create_task(running.ask("a", 1))
        await asyncio.sleep(0)
        held.goes_on.set()
        return (await asked)[0]

    assert run(use) == 200


def test_who_waits_for_a_model_that_goes_is_told_at_once(models, run, rss, monkeypatch):
    monkeypatch.setattr(pool_memory, "_RESIDENCE_S", 1e6)
    for name in "ab":
        models.put(name, 1)

    async def use(running):
        await running.take("a", "b")
        (resting,) = {"a", "b"} - _loaded(running)
        asked = asyncio.create_task(running.ask(resting, 1))
        await until(lambda: running.members.by_name[resting].waiting)
        await running.take(*_loaded(running))
        return (await asyncio.wait_for(asked, 10))[0]

    assert run(use, max_memory_bytes=1) == 503


@pytest.mark.parametrize("change", ["removed", "changed"])
def test_a_request_that_is_still_being_sent_is_answered_by_the_model_that_goes(models, run, change):
    models.put("a", 1)
    request = infer_request(1, path="/v2/models/a/infer")

    async def use(running):
        await running.take("a")
        before = running.model("a")
        arrives, sent = asyncio.Event(), []

        async def receive():
            await arrives.wait()
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message):
            sent.append(message)

        asked = asyncio.create_task(running.pool(scope_of(request), receive, send))
        await until(lambda: running.members.by_name["a"].is_busy)
        changed = {"name": "a", "limits": {"max_body_bytes": 10}}
        await running.take("b" if change == "removed" else changed)
        await asyncio.sleep(0.01)
        arrives.set()
        await asked
        await until(lambda: not before.versions)
        return sent[0]["status"]

    assert run(use) == 200


def test_the_models_of_a_pool_have_their_quotas_before_they_are_served(models, run):
    for name in ("a", "b", "free"):
        models.put(name, 1)

    async def nobody(report):
        return None

    async def use(running):
        running.members.keeper = Keeper("r", nobody)
        started = running.members.keeper.local._born
        running.members.keeper.local._clock = lambda: started + 10
        in_common, own = {"tenant": "x", "rows_per_s": 3}, {"model": "a", "rows_per_s": 0}
        await running.take("a", "b", access={"quotas": [own, in_common]})
        assert (await running.ask("a", 1))[0] == 429
        assert (await running.ask("b", 1, **{"x-tenant": "x"}))[0] == 200
        await running.take("a", "b", "free", access={"quotas": [in_common]})
        asked = [await running.ask(name, 1, **{"x-tenant": "x"}) for name in ("a", "free", "b")]
        assert [status for status, *_ in asked] == [200, 200, 429]
        await running.take("a", "b", "free")
        return (await running.ask("b", 1, **{"x-tenant": "x"}))[0]

    assert run(use) == 200
