"""The life of a model's versions; engines are numpy, the batchers and their threads are real."""

import asyncio
import contextlib
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

from serve.batching.batcher import Batcher
from serve.config.schema import Model as ModelConfig
from serve.config.sections import VersionPolicy
from serve.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    RepositoryError,
    RowsMixed,
)
from serve.replica import model as versions
from serve.replica import version_failures
from serve.replica.late_calls import LateCalls
from serve.replica.model import Model
from serve.types import InferRequest, Signature
from tests.unit.replica.fakes import Doubler, Held, Versions, X, Y, until, x
from tests.unit.telemetry.fakes import FakeRecorder

_BROKEN = RepositoryError("the file is cut off")
_LATEST = VersionPolicy(latest=1)
_ALL = VersionPolicy(all=True)


def _model(source, **config):
    return Model(ModelConfig(name="digits", **config), source, FakeRecorder())


def _apply(model, policy=_LATEST, labels=()):
    asyncio.run(model.apply(policy, dict(labels)))


async def _y(model, *values, **request):
    response = await model.infer(InferRequest(x(*values), **request))
    return response.outputs["y"].tolist()


@pytest.mark.parametrize(
    ("policy", "loaded"),
    [
        (_LATEST, {4}),
        (VersionPolicy(latest=2), {3, 4}),
        (_ALL, {1, 3, 4}),
        (VersionPolicy(specific=(1, 3)), {1, 3}),
        (VersionPolicy(specific=(3, 9)), {3}),
    ],
)
def test_the_policy_says_which_versions_are_loaded_and_changes_in_place(policy, loaded):
    source = Versions({number: Doubler() for number in (1, 3, 4)})
    model = _model(source)
    _apply(model, policy)
    assert set(model.versions) == loaded
    assert set(source.loads) == loaded
    _apply(model, VersionPolicy(specific=(4,)))
    assert set(model.versions) == {4}
    assert source.loads.count(4) == 1


def test_the_newest_version_serves_those_who_do_not_ask_for_another():
    model = _model(Versions({3: Doubler(3), 10: Doubler(10)}))

    async def scenario():
        await model.apply(_ALL, {})
        return await _y(model, 1), await _y(model, 1, version=3)

    assert asyncio.run(scenario()) == ([10], [3])


def test_a_new_version_serves_once_it_is_warm_and_the_old_one_until_then():
    new = Held("warmup", factor=5)
    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        source.put(2, new)
        refreshing = asyncio.create_task(model.refresh())
        await asyncio.to_thread(new.entered.wait)
        while_loading = set(model.versions), await _y(model, 1)
        new.goes_on.set()
        await refreshing
        return while_loading, set(model.versions), await _y(model, 1)

    assert asyncio.run(scenario()) == (({1}, [2]), {2}, [5])
    assert new.warm_sizes == ModelConfig(name="digits").batching.sizes


def test_how_rows_are_computed_is_told_and_logged(caplog):
    ranker = Doubler()
    whole = replace(ranker.signatures["serving_default"], batched=False, batched_reason="ranks")
    ranker.signatures = {"serving_default": whole}
    model = _model(Versions({1: Doubler(), 2: ranker}))
    with caplog.at_level(logging.INFO, "ray.serve"):
        _apply(model, _ALL)
    assert model.together() == {2: "ranks"}
    assert "rows of 'serving_default' are computed together, each request by itself: ranks" in (
        caplog.text
    )


def test_a_newer_version_that_cannot_be_loaded_leaves_the_running_one(caplog):
    source = Versions({1: Doubler()})
    model = _model(source)
    _apply(model)
    source.put(2, _BROKEN)
    with caplog.at_level(logging.ERROR, "ray.serve"):
        asyncio.run(model.refresh())
    assert set(model.versions) == {1}
    assert model.failures == {2: "the file is cut off"}
    assert "model 'digits' version 2 cannot be loaded: the file is cut off" in caplog.text


def test_a_version_that_cannot_be_warmed_is_not_served():
    class Cold(Doubler):
        def warmup(self, batch_sizes):
            raise InferenceFailed("out of memory")

    model = _model(Versions({1: Doubler(), 2: Cold()}))
    _apply(model)
    assert set(model.versions) == {1}
    assert model.failures == {2: "out of memory"}


def test_latest_falls_back_over_all_that_cannot_be_loaded():
    source = Versions({1: Doubler(), 2: Doubler(), 3: _BROKEN, 4: _BROKEN})
    model = _model(source)
    _apply(model)
    assert (set(model.versions), source.loads) == ({2}, [4, 3, 2])
    _apply(model, VersionPolicy(latest=2))
    assert set(model.versions) == {1, 2}


def test_a_failure_is_not_tried_at_each_look_but_as_soon_as_its_revision_changes():
    source = Versions({1: Doubler(), 2: _BROKEN})
    model = _model(source)
    _apply(model)
    asyncio.run(model.refresh())
    assert source.loads == [2, 1]
    source.put(2, RepositoryError("still cut off"), revision=1)
    asyncio.run(model.refresh())
    assert (source.loads, model.failures) == ([2, 1, 2], {2: "still cut off"})
    source.put(2, Doubler(), revision=2)
    asyncio.run(model.refresh())
    assert (set(model.versions), model.failures) == ({2}, {})


@pytest.fixture
def retry_at_once(monkeypatch):
    monkeypatch.setattr(version_failures, "FIRST_RETRY_S", 0.0)


def test_a_load_that_failed_for_a_reason_that_passes_is_tried_again(retry_at_once, caplog):
    source = Versions({1: Doubler(), 2: RepositoryError("the store is away")})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        for _ in range(3):
            await model.refresh()
        source.put(2, RepositoryError("access denied"))
        await model.refresh()
        failed = dict(model.failures), set(model.versions), await _y(model, 1)
        source.put(2, Doubler(5))
        await model.refresh()
        return failed, dict(model.failures), set(model.versions), await _y(model, 1)

    with caplog.at_level(logging.ERROR, "ray.serve"):
        failed, *after = asyncio.run(scenario())
    assert failed == ({2: "access denied"}, {1}, [2])
    assert after == [{}, {2}, [5]]
    assert source.loads == [2, 1, 2, 2, 2, 2, 2]
    assert [record.getMessage().partition("loaded: ")[2][:12] for record in caplog.records] == [
        "the store is",
        "access denie",
    ]


def test_without_a_watch_only_what_failed_is_caught_up_with(retry_at_once):
    source = Versions({1: Doubler(), 2: RepositoryError("the store is away")})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        source.put(2, Doubler(5))
        await model.catch_up()
        caught_up = set(model.versions)
        source.put(3, Doubler(7))
        await model.catch_up()
        return caught_up, set(model.versions)

    assert asyncio.run(scenario()) == ({2}, {2})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (MemoryError(), "MemoryError: "),
        (SystemExit(3), "SystemExit: 3"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_whatever_a_version_raises_is_its_own_failure(error, reason, caplog):
    class Cold(Doubler):
        def warmup(self, batch_sizes):
            raise error

    source = Versions({1: Doubler()})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        source.put(2, Cold())
        await model.refresh()
        running = set(model.versions), dict(model.failures)
        source.put(3, Doubler(7))
        await model.refresh()
        return running, await _y(model, 1)

    with caplog.at_level(logging.ERROR, "ray.serve"):
        assert asyncio.run(scenario()) == (({1}, {2: reason}), [7])
    (record,) = caplog.records
    assert record.exc_info[1] is error
    fresh = _model(source)
    source.remove(3)
    _apply(fresh)
    assert set(fresh.versions) == {1}


def test_a_version_whose_revision_cannot_be_told_takes_no_other_along():
    source = Versions({1: Doubler(), 2: Doubler(5)})
    model = _model(source)
    _apply(model)
    told = source.revision

    def revision(version):
        if version == 2:
            raise PermissionError(13, "Permission denied")
        return told(version)

    source.revision = revision
    source.put(3, Doubler(7))
    asyncio.run(model.refresh())
    assert asyncio.run(_y(model, 1)) == [7]
    source.remove(3)
    asyncio.run(model.refresh())
    assert set(model.versions) == {2}


def test_policy_and_labels_are_reached_though_the_repository_was_away_at_their_change():
    source = Versions({1: Doubler(1), 2: Doubler(2), 3: Doubler(3)})
    model = _model(source)

    async def scenario():
        await model.apply(VersionPolicy(specific=(1, 2)), {"stable": 1, "next": 2})
        source.error = RepositoryError("the store is away")
        with pytest.raises(RepositoryError):
            await model.apply(_ALL, {"stable": 2, "next": 3})
        away = dict(model.labels)
        source.error = None
        await model.refresh()
        return away, dict(model.labels)

    away, after = asyncio.run(scenario())
    assert away == {"stable": 2, "next": 2}  # a label moves only to what is loaded
    assert after == {"stable": 2, "next": 3}


def test_a_label_waits_where_it_is_until_its_version_is_there(caplog):
    source = Versions({1: Doubler(1), 2: Doubler(2)})
    model = _model(source)

    async def scenario():
        await model.apply(_ALL, {"stable": 1})
        with caplog.at_level(logging.WARNING, "ray.serve"):
            for _ in range(2):
                await model.apply(_ALL, {"stable": 3})
        waiting = model.choose(None, "stable").number
        source.put(3, Doubler(3))
        await model.refresh()
        reached = model.choose(None, "stable").number
        await model.apply(VersionPolicy(specific=(1, 3)), {"stable": 3})
        source.remove(3)
        await model.refresh()
        return waiting, reached

    assert asyncio.run(scenario()) == (1, 3)
    record, again = (each for each in caplog.records if each.levelno == logging.WARNING)
    assert again.getMessage() == record.getMessage()  # once it was there, and went
    assert "label 'stable' is to be version 3, which is not loaded" in record.getMessage()
    with pytest.raises(ModelNotFound, match="no version 3 loaded"):
        model.choose(None, "stable")


def test_a_change_while_the_newest_version_is_broken_leaves_what_serves():
    source = Versions({1: Doubler(), 2: _BROKEN})
    model = _model(source)
    _apply(model)
    for policy in (VersionPolicy(specific=(2,)), _LATEST, _ALL, VersionPolicy(latest=2)):
        _apply(model, policy)
        assert asyncio.run(_y(model, 1)) == [2]
    fresh = _model(source)
    _apply(fresh)
    assert asyncio.run(_y(fresh, 1)) == [2]


def test_an_engine_that_does_not_come_back_is_told_after_a_bound(monkeypatch):
    engine = Held("infer")
    model = _model(Versions({1: engine}), limits={"request_timeout_s": 40})

    async def scenario():
        await model.apply(_LATEST, {})
        model.require_quick()
        asked = asyncio.create_task(_y(model, 1))
        await asyncio.to_thread(engine.entered.wait)
        for busy_s in (119, 121):
            monkeypatch.setattr(Batcher, "busy_s", busy_s)
            if busy_s < 120:
                model.require_quick()
                continue
            with pytest.raises(ModelNotReady, match=r"version 1: .* for 121 s, and 120 s"):
                model.require_quick()
        engine.goes_on.set()
        await asked

    asyncio.run(scenario())
    model = _model(Versions({1: Doubler()}), limits={"request_timeout_s": 0.1})
    _apply(model)
    monkeypatch.setattr(Batcher, "busy_s", 59)
    model.require_quick()


@pytest.fixture
def late(monkeypatch):
    """Return a function that has the load of a version be late at once, and no other one."""
    result, keys = LateCalls.result, []

    async def bounded(calls, key, action, bound_s, said):
        return await result(calls, key, action, 0.05 if key in keys else bound_s, said)

    monkeypatch.setattr(LateCalls, "result", bounded)
    return lambda number, revision: keys.append(versions._Load(number, revision))


def test_a_load_that_hangs_is_told_and_holds_up_neither_changes_nor_other_versions(
    late, retry_at_once
):
    late(2, 0)
    hangs = Held("warmup", factor=5)
    source = Versions({1: Doubler(1), 2: hangs})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        started = set(model.versions), model.unavailable()
        source.put(3, Doubler(3))
        await model.apply(_ALL, {"stable": 3})
        beside = set(model.versions), model.choose(None, "stable").number
        hangs.goes_on.set()
        async with asyncio.timeout(30):
            while model.failures:
                await model.refresh()
        return started, beside, await _y(model, 1, version=2)

    started, beside, y = asyncio.run(scenario())
    assert started == ({1}, {2: "it is still being loaded after 1800 s; it serves once it is"})
    assert (beside, y) == (({1, 3}, 3), [5])
    assert source.loads.count(2) == 1


def test_a_load_that_hangs_is_closed_in_the_end_if_its_version_is_another_by_then(
    late, retry_at_once
):
    late(1, 0)
    hangs = Held("warmup", factor=5)
    source = Versions({1: hangs})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        source.put(1, Doubler(7), revision=1)
        await model.refresh()
        hangs.goes_on.set()
        await until(lambda: hangs.is_closed)
        return await _y(model, 1)

    assert asyncio.run(scenario()) == [7]


def test_a_look_that_hangs_is_told_and_the_next_one_waits_for_it(monkeypatch):
    source = Versions({1: Doubler()})
    model = _model(source)
    _apply(model)
    monkeypatch.setattr(versions, "_LONGEST_LOOK_S", 0.05)
    goes_on, looks = threading.Event(), []

    def hang():
        looks.append(1)
        assert goes_on.wait(30)
        return [1, 2]

    async def scenario():
        source.put(2, Doubler(5))
        with monkeypatch.context() as patch:
            patch.setattr(source, "versions", hang)
            for _ in range(3):
                with pytest.raises(RepositoryError, match="a look into the repository has taken"):
                    await model.refresh()
        before = await _y(model, 1)
        goes_on.set()
        async with asyncio.timeout(30):
            while set(model.versions) != {2}:
                with contextlib.suppress(RepositoryError):
                    await model.refresh()
        return before, await _y(model, 1), looks

    assert asyncio.run(scenario()) == ([2], [5], [1])


@pytest.mark.parametrize("specific", [(2,), (2, 3), (9,)])
def test_where_all_specified_versions_are_broken_the_last_good_one_serves(specific, retry_at_once):
    source = Versions({1: Doubler(), 2: _BROKEN, 3: _BROKEN})
    model = _model(source)

    async def scenario():
        await model.apply(VersionPolicy(specific=(1,)), {"stable": 1})
        await model.apply(VersionPolicy(specific=specific), {"stable": specific[0]})
        kept = await _y(model, 1)
        source.remove(1)  # from the repository; it is in memory
        await model.refresh()
        still = await _y(model, 1)
        model.require_ready()
        source.put(specific[0], Doubler(5), revision=1)
        await model.refresh()
        return kept, still, await _y(model, 1), set(model.versions), dict(model.labels)

    after = [5], {specific[0]}, {"stable": specific[0]}
    assert asyncio.run(scenario()) == ([2], [2], *after)


def test_a_failure_is_forgotten_when_its_version_is_wanted_no_more(retry_at_once):
    source = Versions({1: _BROKEN, 2: _BROKEN, 3: _BROKEN})
    model = _model(source)
    _apply(model)
    assert set(model.failures) == {1, 2, 3}
    source.put(2, Doubler())
    asyncio.run(model.refresh())
    assert set(model.failures) == {3}
    _apply(model, _ALL)
    assert set(model.failures) == {1, 3}
    _apply(model, VersionPolicy(specific=(2,)))
    assert model.failures == {}


def test_a_failure_is_forgotten_when_its_version_disappears():
    source = Versions({1: Doubler(), 2: _BROKEN})
    model = _model(source)
    _apply(model)
    source.remove(2)
    asyncio.run(model.refresh())
    assert model.failures == {}
    source.put(2, Doubler())
    asyncio.run(model.refresh())
    assert set(model.versions) == {2}


def test_a_replaced_revision_closes_the_old_engine_once_its_requests_are_done():
    old, new = Held("infer", factor=2), Doubler(7)
    source = Versions({1: old})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        asked = asyncio.create_task(_y(model, 1))
        await asyncio.to_thread(old.entered.wait)
        source.put(1, new, revision=1)
        await model.refresh()
        replaced = await _y(model, 1), old.is_closed
        old.goes_on.set()
        return replaced, await asked

    assert asyncio.run(scenario()) == (([7], False), [2])
    assert (old.is_closed, new.is_closed) == (True, False)


def test_a_replacement_that_cannot_be_loaded_leaves_the_running_one():
    engine = Doubler()
    source = Versions({1: engine})
    model = _model(source)
    _apply(model)
    source.put(1, _BROKEN, revision=1)
    asyncio.run(model.refresh())
    asyncio.run(model.refresh())
    assert (source.loads, model.failures) == ([1, 1], {1: "the file is cut off"})
    assert asyncio.run(_y(model, 4)) == [8]
    assert not engine.is_closed


def test_unloading_lets_requests_end_and_then_closes_the_engine_and_its_thread():
    old = Held("infer")
    source = Versions({1: old})
    model = _model(source)

    async def scenario():
        await model.apply(_LATEST, {})
        asked = asyncio.create_task(_y(model, 1))
        await asyncio.to_thread(old.entered.wait)
        source.put(2, Doubler())
        await model.refresh()
        while_asked = set(model.versions), old.is_closed
        old.goes_on.set()
        return while_asked, await asked

    assert asyncio.run(scenario()) == (({2}, False), [2])
    assert old.is_closed
    old.thread.join(30)
    assert not old.thread.is_alive()


def test_a_version_without_requests_is_closed_as_it_is_unloaded():
    first, second = Doubler(), Doubler()
    model = _model(Versions({1: first, 2: second}))
    _apply(model, _ALL)
    _apply(model)
    assert (first.is_closed, second.is_closed) == (True, False)


def test_a_repository_without_versions_leaves_those_that_run():
    engine = Doubler()
    source = Versions({1: engine})
    model = _model(source)
    _apply(model)
    source.remove(1)
    asyncio.run(model.refresh())
    assert asyncio.run(_y(model, 1)) == [2]
    assert not engine.is_closed


def test_a_repository_that_is_away_is_an_error_and_leaves_those_that_run():
    source = Versions({1: Doubler()})
    model = _model(source)
    _apply(model)
    source.error = RepositoryError("the store is away")
    with pytest.raises(RepositoryError, match="the store is away"):
        asyncio.run(model.refresh())
    assert asyncio.run(_y(model, 1)) == [2]
    source.error = None
    source.put(2, Doubler(5))
    asyncio.run(model.refresh())
    assert asyncio.run(_y(model, 1)) == [5]


def test_two_refreshes_at_once_load_a_version_once():
    engine = Held("warmup")
    source = Versions({1: engine})
    model = _model(source)

    async def scenario():
        both = asyncio.gather(model.refresh(), model.refresh())
        await asyncio.to_thread(engine.entered.wait)
        engine.goes_on.set()
        await both

    asyncio.run(scenario())
    assert source.loads == [1]


def test_a_label_is_a_loaded_version_and_moves_in_place():
    model = _model(Versions({1: Doubler(), 2: Doubler()}))
    _apply(model, _ALL, {"stable": 1})
    assert model.choose(None, "stable").number == 1
    _apply(model, _ALL, {"stable": 2, "gone": 9})
    assert model.choose(None, "stable").number == 2
    with pytest.raises(ModelNotFound, match=r"label: canary of model 'digits' .*gone, stable"):
        model.choose(None, "canary")
    with pytest.raises(ModelNotFound, match=r"Specific\(digits, 9\).*available: 1, 2"):
        model.choose(None, "gone")


def test_a_version_that_is_not_loaded_is_not_found():
    model = _model(Versions({1: Doubler(), 2: Doubler()}))
    _apply(model)
    with pytest.raises(ModelNotFound, match=r"no version 1 loaded \(available: 2\)"):
        asyncio.run(_y(model, 1, version=1))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "its repository folder holds no complete version; publish one"),
        ({1: _BROKEN, 2: RepositoryError("no model")}, "version 2: no model"),
    ],
)
def test_a_model_without_a_version_says_why(found, reason):
    model = _model(Versions(found))
    _apply(model)
    with pytest.raises(ModelNotReady, match=f"'digits' has no version loaded; {reason}"):
        model.choose(None, None)
    with pytest.raises(RepositoryError, match=f"'digits' has no version to serve: {reason}"):
        model.require_ready()


def test_a_model_with_a_version_is_ready():
    model = _model(Versions({1: Doubler(), 2: _BROKEN}))
    _apply(model)
    model.require_ready()


class Two(Doubler):
    """An engine with two signatures; the other one has outputs `y` and `z`."""

    def __init__(self):
        super().__init__()
        z = type(Y)("z", "FP32", (-1,))
        self.signatures["both"] = Signature("both", (X,), (Y, z), True)

    def infer(self, signature, inputs):
        outputs = super().infer(signature, inputs)
        return outputs if signature != "both" else {**outputs, "z": inputs["x"] + 1}


def _infer(engine, request, **config):
    model = _model(Versions({3: engine}), **config)

    async def scenario():
        await model.apply(_LATEST, {})
        return await model.infer(request)

    return asyncio.run(scenario())


def test_a_response_says_which_model_version_and_signature_it_is_of():
    response = _infer(Two(), InferRequest(x(1), signature="both", id="r1"))
    assert (response.model, response.version, response.signature) == ("digits", 3, "both")
    assert response.id == "r1"
    assert response.timing.rows == 1
    assert _infer(Two(), InferRequest(x(1))).signature == "serving_default"


def test_outputs_are_those_that_were_asked_for_in_the_order_asked():
    both = InferRequest(x(1), signature="both", outputs=("z", "y"))
    assert list(_infer(Two(), both).outputs) == ["z", "y"]
    one = InferRequest(x(1), signature="both", outputs=("z",))
    assert _infer(Two(), one).outputs["z"].tolist() == [2]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (InferRequest(x(1), signature="none"), 'signature name: "none" not found .*both'),
        (InferRequest(x(1), outputs=("q",)), r"unknown output 'q' \(the model has: y\)"),
        (InferRequest({"x": np.zeros((1, 2), np.float32)}), "x"),
        (InferRequest({}), "x"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_before_it_reaches_the_engine(request_, said):
    class Unused(Two):
        def infer(self, signature, inputs):
            raise AssertionError("it was computed")

    with pytest.raises(InvalidRequest, match=said):
        _infer(Unused(), request_)


@pytest.mark.parametrize(("asked_s", "limit_s"), [(0.01, 30), (None, 0.01), (30, 0.01)])
def test_a_request_may_shorten_its_time_and_not_lengthen_it(asked_s, limit_s):
    engine = Held("infer")
    model = _model(Versions({1: engine}), limits={"request_timeout_s": limit_s})

    async def scenario():
        await model.apply(_LATEST, {})
        try:
            with pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
                await asyncio.wait_for(_y(model, 1, timeout_s=asked_s), 20)
        finally:
            engine.goes_on.set()

    asyncio.run(scenario())


def test_rows_of_several_clients_are_not_computed_together():
    model = _model(Versions({1: Doubler(1)}))

    async def scenario():
        await model.apply(_LATEST, {})
        engine = model.versions[1].engine
        assert await _y(model, 1, 2, has_strangers=True) == [1, 2]
        signatures = engine.signatures.items()
        engine.signatures = {
            name: replace(each, batched=False, batched_reason="it ranks them")
            for name, each in signatures
        }
        assert await _y(model, 1, 2) == [1, 2]
        with pytest.raises(RowsMixed, match=r"version 1 computes all rows.*: it ranks them"):
            await _y(model, 1, 2, has_strangers=True)

    asyncio.run(scenario())
