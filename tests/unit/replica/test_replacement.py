"""Versions that make room before the next one is loaded: what serves, what waits, what comes back.

Engines are numpy; a model's batchers, threads and its way to load are real.
"""

import asyncio
import json

import pytest

from serve.config.schema import Model as ModelConfig
from serve.config.sections import VersionPolicy
from serve.edge.http import HttpRequest
from serve.errors import ModelNotFound, ModelNotReady, QueueFull, RepositoryError
from serve.replica import model as versions
from serve.replica import replacement, version_failures
from serve.replica.endpoint import ModelEndpoint
from serve.replica.model import Model
from serve.telemetry.request_metrics import RequestMetrics
from serve.types import InferRequest
from tests.unit.replica.fakes import Doubler, Held, Versions, infer_request, until, x
from tests.unit.telemetry.fakes import FakeRecorder

_BROKEN = RepositoryError("the file is cut off")
_BEFORE = VersionPolicy(latest=1, replace="before_load")


def _model(source, **config):
    return Model(ModelConfig(name="digits", **config), source, FakeRecorder())


async def _y(model, *values, **request):
    response = await model.infer(InferRequest(x(*values), **request))
    return response.outputs["y"].tolist()


async def _replacing(model, source, number, policy=_BEFORE):
    """Have a model replace what it has by a version that is held while it is warmed."""
    new = Held("warmup", factor=number)
    source.put(number, new)
    refreshing = asyncio.create_task(model.refresh())
    await asyncio.to_thread(new.entered.wait)
    return new, refreshing


class _Order(Versions):
    """A source that notes whether an engine was closed when the next one was loaded."""

    def __init__(self, found):
        super().__init__(found)
        self.closed_at_load = []
        self.first = found[1]

    def load(self, version):
        self.closed_at_load.append((version, self.first.is_closed))
        return super().load(version)


@pytest.mark.parametrize(("replace", "closed"), [("before_load", True), ("after_load", False)])
def test_the_old_version_has_gone_when_the_new_one_is_loaded_where_that_is_wanted(replace, closed):
    source = _Order({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(VersionPolicy(latest=1, replace=replace), {})
        source.put(2, Doubler(5))
        await model.refresh()
        return await _y(model, 1)

    assert asyncio.run(scenario()) == [5]
    assert source.closed_at_load == [(1, False), (2, closed)]
    assert source.fetches == ([2] if closed else [])


def test_requests_wait_for_the_version_that_is_loaded_and_those_without_time_are_told():
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {"stable": 1})
        new, refreshing = await _replacing(model, source, 2)
        waiting = [asyncio.create_task(_y(model, 1)) for _ in range(3)]
        with pytest.raises(ModelNotReady, match="version 2 is loaded in the place of the one bef"):
            await _y(model, 1, timeout_s=0.01)
        with pytest.raises(ModelNotReady, match="replace: before_load"):
            model.choose(1, None)
        told = dict(model.loading), model.is_replacing, set(model.versions), dict(model.labels)
        assert not any(each.done() for each in waiting)
        new.goes_on.set()
        await refreshing
        return told, await asyncio.gather(*waiting), model.is_replacing, dict(model.loading)

    told, answers, *after = asyncio.run(scenario())
    assert told[0][2].startswith("warming up")
    assert told[1:] == (True, set(), {"stable": 1})
    assert answers == [[2], [2], [2]]
    assert after == [False, {}]


def test_no_more_requests_wait_than_may_be_queued():
    source = Versions({1: Doubler()})
    model = _model(source, limits={"max_queued_requests": 2})

    async def scenario():
        await model.apply(_BEFORE, {})
        new, refreshing = await _replacing(model, source, 2)
        waiting = [asyncio.create_task(_y(model, 1)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="2 requests wait already for version 2"):
            await _y(model, 1)
        waiting.pop().cancel()  # its client has gone, and another one may wait
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(_y(model, 1)))
        new.goes_on.set()
        await refreshing
        return await asyncio.gather(*waiting)

    assert asyncio.run(scenario()) == [[2], [2]]


def test_requests_that_are_in_the_old_version_are_computed_by_it_first(monkeypatch):
    old = Held("infer", factor=3)
    closed_at_release = []
    release = replacement.release

    def noted():
        closed_at_release.append(old.is_closed)
        release()

    monkeypatch.setattr(replacement, "release", noted)
    source = _Order({1: old})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {})
        asked = [asyncio.create_task(_y(model, value)) for value in (1, 2)]
        await asyncio.to_thread(old.entered.wait)
        source.put(2, Doubler(5))
        refreshing = asyncio.create_task(model.refresh())
        await until(lambda: model.is_replacing)
        late = asyncio.create_task(_y(model, 1))
        for _ in range(1_000):  # turns in which it would go on if it did not wait
            await asyncio.sleep(0)
        loads = list(source.loads)
        old.goes_on.set()
        await refreshing
        return loads, await asyncio.gather(*asked), await late

    assert asyncio.run(scenario()) == ([1], [[3], [6]], [5])
    assert closed_at_release == [True]
    assert source.closed_at_load == [(1, False), (2, True)]


def test_an_engine_that_does_not_come_back_keeps_nothing_from_loading_and_fails_the_health_check(
    monkeypatch, caplog
):
    monkeypatch.setattr(versions, "_LEAST_STUCK_S", 0.05)
    old = Held("infer")
    source = Versions({1: old})
    model = _model(source, limits={"request_timeout_s": 0.01})

    async def scenario():
        await model.apply(_BEFORE, {})
        asked = asyncio.create_task(_y(model, 1))
        await asyncio.to_thread(old.entered.wait)
        source.put(2, Doubler(5))
        await model.refresh()
        with pytest.raises(ModelNotReady, match="version 1: its engine has been at one call"):
            model.require_quick()
        old.goes_on.set()
        await asyncio.gather(asked, return_exceptions=True)
        return set(model.versions)

    assert asyncio.run(scenario()) == {2}
    assert "version 1 still computes after 0 s; version 2 is loaded beside it" in caplog.text


def test_a_version_that_fails_brings_the_old_one_back_and_takes_nothing_down_again(
    monkeypatch, caplog
):
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {"stable": 1})
        source.put(2, _BROKEN)
        await model.refresh()
        failed = set(model.versions), dict(model.labels), await _y(model, 1), dict(model.failures)
        for _ in range(3):
            await model.refresh()
            await model.catch_up()
        loads = list(source.loads)
        await model.apply(_BEFORE, {"stable": 2})  # any change but one of its files
        assert source.loads == loads
        source.put(2, Doubler(5), revision=1)
        await model.refresh()
        return failed, loads, set(model.versions), await _y(model, 1), dict(model.labels)

    failed, loads, *after = asyncio.run(scenario())
    assert failed == ({1}, {"stable": 1}, [2], {2: "the file is cut off"})
    assert loads == [1, 2, 1]
    assert after == [{2}, [5], {"stable": 2}]
    assert "the version before it comes back, and it is not tried again until its" in caplog.text


def test_a_label_that_was_to_move_to_the_version_that_failed_means_what_it_did():
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {"stable": 1})
        source.put(2, _BROKEN)
        await model.apply(_BEFORE, {"stable": 2})
        return dict(model.labels), set(model.versions)

    assert asyncio.run(scenario()) == ({"stable": 1}, {1})


def test_a_version_that_failed_is_tried_beside_the_old_one_once_that_is_allowed(monkeypatch):
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {})
        source.put(2, _BROKEN)
        await model.refresh()
        source.put(2, Doubler(5))
        await model.apply(VersionPolicy(latest=1), {})
        return set(model.versions)

    assert asyncio.run(scenario()) == {2}


def test_where_the_old_one_cannot_come_back_either_both_are_tried_again(monkeypatch):
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {})
        source.put(1, _BROKEN)
        source.put(2, _BROKEN)
        await model.refresh()
        none = set(model.versions), model.is_replacing
        source.put(2, Doubler(5))
        await model.refresh()
        return none, set(model.versions)

    assert asyncio.run(scenario()) == ((set(), False), {2})


def test_a_version_whose_files_do_not_come_costs_the_old_one_nothing(monkeypatch):
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_BEFORE, {})
        source.put(2, Doubler(5))
        source.unfetchable = RepositoryError("the store is away")
        await model.refresh()
        failed = set(model.versions), list(source.loads), dict(model.failures)
        source.unfetchable = None
        await model.refresh()
        return failed, set(model.versions)

    assert asyncio.run(scenario()) == (({1}, [1], {2: "the store is away"}), {2})


def test_of_several_versions_as_few_are_away_at_a_time_as_can_be():
    source = Versions({1: Doubler(1), 2: Doubler(2)})
    model = _model(source)
    two = VersionPolicy(latest=2, replace="before_load")

    async def scenario():
        await model.apply(two, {})
        new, refreshing = await _replacing(model, source, 3)
        during = set(model.versions), await _y(model, 10), await _y(model, 10, version=2)
        with pytest.raises(ModelNotFound):
            await _y(model, 1, version=1)
        new.goes_on.set()
        await refreshing
        after = set(model.versions)
        source.put(4, _BROKEN)
        await model.refresh()
        return during, after, set(model.versions), await _y(model, 10)

    assert asyncio.run(scenario()) == (({2}, [20], [20]), {2, 3}, {2, 3}, [30])
    assert source.loads == [2, 1, 3, 4, 2]


def test_a_policy_of_two_other_versions_changes_them_one_by_one():
    source = Versions({number: Doubler(number) for number in (1, 2, 3, 4)})
    model = _model(source)
    seen = []

    async def scenario():
        await model.apply(VersionPolicy(specific=(1, 2)), {})
        load = source.load
        source.load = lambda version: (seen.append(set(model.versions)), load(version))[1]
        await model.apply(VersionPolicy(specific=(3, 4), replace="before_load"), {})
        return set(model.versions)

    assert asyncio.run(scenario()) == {3, 4}
    assert seen == [{2}, {4}]


def test_an_http_request_waits_too_and_is_told_where_its_time_is_short():
    source = Versions({1: Doubler()})
    recorder = FakeRecorder()
    model = Model(ModelConfig(name="digits"), source, recorder)

    async def scenario():
        await model.apply(_BEFORE, {})
        served = ModelEndpoint(
            model, 10_000, RequestMetrics(recorder, model._config.ray_actor_options)
        )
        new, refreshing = await _replacing(model, source, 2)
        waiting = asyncio.create_task(served.respond(infer_request(1)))
        short = await served.respond(infer_request(1, grpc_timeout="10m"))
        ready = await served.respond(HttpRequest("GET", "/v2/models/digits/ready", {}))
        status = await served.respond(HttpRequest("GET", "/v2/models/digits/v1", {}))
        new.goes_on.set()
        await refreshing
        return short, ready, status, await waiting

    short, ready, status, waited = asyncio.run(scenario())
    assert short.status == 503
    assert (b"retry-after", b"1") in short.headers
    assert ready.status == 503
    (version,) = json.loads(status.body)["model_version_status"]
    assert (version["version"], version["state"]) == ("2", "LOADING")
    assert waited.status == 200
    assert json.loads(waited.body)["model_version"] == "2"
