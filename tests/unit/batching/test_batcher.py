import asyncio
import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.batching import batcher as module
from serve.batching import execution
from serve.batching.batcher import Batcher, BatchPolicy
from serve.batching.deadline import left_s
from serve.config.sections import Batching
from serve.errors import DeadlineExceeded, InferenceFailed, ModelNotReady, QueueFull
from serve.telemetry.trace_context import following
from tests.reached import Reached

_TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


class Doubler:
    """An engine that doubles x, refuses the number 13, and holds still while `gate` is closed."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = Reached()

    def __call__(self, signature, inputs):
        self.entered.set()
        assert self.gate.wait(10)
        self.sizes.append(len(inputs["x"]))
        self.threads.add(threading.get_ident())
        if (inputs["x"] == 13).any():
            raise InferenceFailed("thirteen")
        return {"y": inputs["x"] * 2}


def _x(*values):
    return {"x": np.array(values, np.float32)}


def _batcher(engine, runs=None, max_queued_requests=100, pads=True, **batching):
    policy = BatchPolicy(Batching(**batching), max_queued_requests, pads=pads)
    return Batcher(engine, policy, lambda run, timing: None if runs is None else runs.append(run))


async def _infer(
    batcher, *values, timeout_s=10.0, alone=False, batched=True, priority="interactive"
):
    outputs, timing = await batcher.infer(
        "serve",
        _x(*values),
        batched=batched,
        timeout_s=timeout_s,
        priority=priority,
        is_alone=lambda: alone,
    )
    return outputs["y"].tolist(), timing


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(20, 99), min_size=1, max_size=11), min_size=1, max_size=12),
    st.integers(1, 8),
)
def test_every_request_gets_its_own_rows_in_every_composition(requests, max_batch_size):
    async def scenario():
        batcher = _batcher(Doubler(), max_batch_size=max_batch_size)
        return await asyncio.gather(*(_infer(batcher, *values) for values in requests))

    for values, (answer, _) in zip(requests, asyncio.run(scenario()), strict=True):
        assert answer == [2 * value for value in values]


def test_requests_that_arrive_together_share_one_padded_batch():
    engine, runs = Doubler(), []

    async def scenario():
        batcher = _batcher(engine, runs, max_batch_size=8)
        answers = await asyncio.gather(*(_infer(batcher, value) for value in (1, 2, 3)))
        return [timing.batch_rows for _, timing in answers]

    assert asyncio.run(scenario()) == [3, 3, 3]
    assert engine.sizes == [4]
    assert [(run.rows, run.padded_rows) for run in runs] == [(3, 4)]


def test_an_engine_that_pads_by_itself_is_given_the_rows_as_they_are():
    engine = Doubler()

    async def scenario():
        batcher = _batcher(engine, pads=False, max_batch_size=8)
        together = await asyncio.gather(*(_infer(batcher, value) for value in (1, 2, 3)))
        return [outputs for outputs, _ in [*together, await _infer(batcher, *range(20, 31))]]

    assert asyncio.run(scenario()) == [[2], [4], [6], [2 * value for value in range(20, 31)]]
    assert engine.sizes == [3, 8, 3]


def test_what_arrives_while_the_engine_works_forms_the_next_batch():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=8)
        first = asyncio.create_task(_infer(batcher, 1))
        await asyncio.to_thread(engine.entered.wait)
        rest = [asyncio.create_task(_infer(batcher, value)) for value in (2, 3, 4, 5)]
        while batcher.queued < 4:
            await asyncio.sleep(0)
        queued_at = time.perf_counter()
        await asyncio.sleep(0)
        held_s = time.perf_counter() - queued_at
        engine.gate.set()
        return held_s, await asyncio.gather(first, *rest)

    held_s, answers = asyncio.run(scenario())
    assert engine.sizes == [1, 4]
    assert all(timing.queue_s > held_s for _, timing in answers[1:])


@pytest.mark.parametrize(("max_batch_size", "sizes"), [(8, [1, 2]), (4, [1, 1, 1])])
def test_few_who_wait_take_along_who_comes_once_the_responses_are_out(max_batch_size, sizes):
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=max_batch_size)

        async def asks_again():
            return [await _infer(batcher, 1), await _infer(batcher, 3)]

        first = asyncio.create_task(asks_again())
        await asyncio.to_thread(engine.entered.wait)
        second = asyncio.create_task(_infer(batcher, 2))
        while batcher.queued < 1:
            await asyncio.sleep(0)
        engine.gate.set()
        return [*await first, await second]

    assert [answer for answer, _ in asyncio.run(scenario())] == [[2], [6], [4]]
    assert engine.sizes == sizes


def test_a_full_batch_waits_in_the_engines_thread_and_a_partial_one_stays_open():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=2)
        running = asyncio.create_task(_infer(batcher, 1))
        await asyncio.to_thread(engine.entered.wait)
        full = asyncio.create_task(_infer(batcher, 2, 3))
        while batcher.queued != 0 or full.done():
            await asyncio.sleep(0)
        open_one = asyncio.create_task(_infer(batcher, 4))
        while batcher.queued != 1:
            await asyncio.sleep(0)
        joins = asyncio.create_task(_infer(batcher, 5))
        while batcher.queued != 2:
            await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(running, full, open_one, joins)

    assert [answer for answer, _ in asyncio.run(scenario())] == [[2], [4, 6], [8], [10]]
    assert engine.sizes == [1, 2, 2]


def test_a_wait_lets_later_rows_join_and_ends_early_when_the_batch_is_full():
    engine = Doubler()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=2, batch_wait_timeout_s=10)
        first = asyncio.create_task(_infer(batcher, 1))
        while batcher.queued < 1:
            await asyncio.sleep(0)
        second = asyncio.create_task(_infer(batcher, 2))
        return await asyncio.wait_for(asyncio.gather(first, second), 5)

    asyncio.run(scenario())
    assert engine.sizes == [2]


def test_requests_of_other_shapes_do_not_share_a_batch():
    engine = Doubler()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=8)
        wide = {"x": np.ones((1, 2), np.float32)}
        return await asyncio.gather(
            _infer(batcher, 1),
            batcher.infer("serve", wide, batched=True, timeout_s=10),
            _infer(batcher, 2),
        )

    asyncio.run(scenario())
    assert sorted(engine.sizes) == [1, 2]


def test_a_request_that_the_model_refuses_fails_alone():
    async def scenario():
        batcher = _batcher(Doubler(), max_batch_size=8)
        return await asyncio.gather(
            *(_infer(batcher, value) for value in (1, 13, 2)), return_exceptions=True
        )

    good, bad, other = asyncio.run(scenario())
    assert good[0] == [2]
    assert isinstance(bad, InferenceFailed)
    assert other[0] == [4]


def test_any_exception_of_an_engine_reaches_the_caller_as_inference_failed():
    def broken(signature, inputs):
        raise ZeroDivisionError

    with pytest.raises(InferenceFailed, match="ZeroDivisionError"):
        asyncio.run(_infer(_batcher(broken), 1))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(10, 15), max_size=20), st.sampled_from(["answer", "leave", "late"])
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 6),
    st.randoms(use_true_random=False),
)
def test_whatever_fails_or_leaves_each_gets_its_own_rows_or_its_own_error(
    asked, max_batch_size, random
):
    async def scenario():
        batcher = _batcher(Doubler(), max_batch_size=max_batch_size)
        tasks = []
        for values, fate in asked:
            timeout_s = 1e-6 if fate == "late" else 10.0
            tasks.append(asyncio.create_task(_infer(batcher, *values, timeout_s=timeout_s)))
            for _ in range(random.randint(0, 3)):
                await asyncio.sleep(0)
            if fate == "leave":
                tasks[-1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert batcher.queued == 0
        assert batcher._queue.rows == 0
        return answers

    for (values, fate), answer in zip(asked, asyncio.run(scenario()), strict=True):
        if isinstance(answer, InferenceFailed):
            assert 13 in values
        elif isinstance(answer, BaseException):
            kind = {"leave": asyncio.CancelledError, "late": DeadlineExceeded}[fate]
            assert isinstance(answer, kind)
        else:
            assert answer[0] == [2 * value for value in values]
            assert 13 not in values


def test_others_are_answered_between_the_pieces_of_a_large_request_and_not_refused():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_queued_requests=2, max_batch_size=2)
        large = asyncio.create_task(_infer(batcher, *range(20, 420)))
        await asyncio.to_thread(engine.entered.wait)
        small = asyncio.create_task(_infer(batcher, 1))
        while batcher.queued < 2:
            await asyncio.sleep(0)
        engine.gate.set()
        assert (await small)[0] == [2]
        assert not large.done()
        assert len(engine.sizes) < 10
        outputs, timing = await large
        return outputs, timing.rows

    outputs, rows = asyncio.run(scenario())
    assert (outputs, rows) == ([2 * value for value in range(20, 420)], 400)
    assert engine.sizes.count(2) == 200


def test_a_large_request_whose_client_goes_away_is_not_computed_to_its_end():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=2)
        large = asyncio.create_task(_infer(batcher, *range(20, 420)))
        await asyncio.to_thread(engine.entered.wait)
        large.cancel()
        while batcher.queued:
            await asyncio.sleep(0)
        engine.gate.set()
        return await _infer(batcher, 1)

    assert asyncio.run(scenario())[0] == [2]
    assert len(engine.sizes) <= 3


@pytest.mark.parametrize("batched", [True, False])
def test_a_lonely_request_of_another_length_is_not_expected_to_be_as_short(monkeypatch, batched):
    monkeypatch.setattr(module, "INLINE_LIMIT_S", math.inf)  # however busy the machine is
    engine = Doubler()

    async def infer(batcher, length):
        engine.threads.clear()
        inputs = {"x": np.ones((1, length), np.float32)}
        await batcher.infer("serve", inputs, batched=batched, timeout_s=10.0, is_alone=lambda: True)
        return engine.threads == {threading.get_ident()}

    async def scenario():
        batcher = _batcher(engine)
        return [await infer(batcher, length) for length in (16, 16, 4096, 4096, 16)]

    assert asyncio.run(scenario()) == [False, True, False, True, True]


def test_a_full_queue_refuses_and_still_answers_the_others():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_queued_requests=2, max_batch_size=1)
        running = asyncio.create_task(_infer(batcher, 1))
        await asyncio.to_thread(engine.entered.wait)
        waiting = [asyncio.create_task(_infer(batcher, value)) for value in (2, 3)]
        while batcher.queued < 2:
            await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await _infer(batcher, 4)
        engine.gate.set()
        return await asyncio.gather(running, *waiting)

    assert [answer for answer, _ in asyncio.run(scenario())] == [[2], [4], [6]]


def test_batch_requests_give_way_until_their_own_deadline():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=2)
        running = asyncio.create_task(_infer(batcher, 20))
        await asyncio.to_thread(engine.entered.wait)
        ends = asyncio.create_task(_infer(batcher, 30, timeout_s=0.01, priority="batch"))
        with pytest.raises(DeadlineExceeded):
            await ends
        fills = [asyncio.create_task(_infer(batcher, n, priority="batch")) for n in (31, 32)]
        while batcher.queued < 2:
            await asyncio.sleep(0)
        urgent = [asyncio.create_task(_infer(batcher, n)) for n in (21, 22, 23)]
        done = []
        for task in (*urgent, *fills):
            task.add_done_callback(done.append)
        while batcher.queued < 5:
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(running, *urgent)
        outputs = [outputs for outputs, _ in await asyncio.gather(*fills)]
        return [done.index(task) for task in fills], outputs

    (first, second), outputs = asyncio.run(scenario())
    assert first < second == 4, "one fills what interactive requests leave, and one comes last"
    assert outputs == [[62], [64]]
    assert engine.sizes == [1, 2, 2, 1]


def test_a_full_batch_of_batch_requests_does_not_run_ahead():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=2)
        running = asyncio.create_task(_infer(batcher, 20))
        await asyncio.to_thread(engine.entered.wait)
        fills = [asyncio.create_task(_infer(batcher, n, priority="batch")) for n in (31, 32)]
        while batcher.queued < 2:
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        queued = batcher.queued
        engine.gate.set()
        await asyncio.gather(running, *fills)
        return queued

    assert asyncio.run(scenario()) == 2


def test_what_it_computed_tells_it_who_may_wait():
    engine = Doubler()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=8)
        for _ in range(5):
            await asyncio.gather(*(_infer(batcher, value) for value in range(20, 44)))
        return batcher.admission.pace

    pace = asyncio.run(scenario())
    assert 1 <= pace.speed.good_batch <= 8
    assert pace._loop.requests > 0


def test_a_request_past_its_deadline_is_told_so_and_is_not_computed():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=1)
        running = asyncio.create_task(_infer(batcher, 1))
        await asyncio.to_thread(engine.entered.wait)
        with pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
            await _infer(batcher, 2, timeout_s=0.01)
        engine.gate.set()
        await running
        return await _infer(batcher, 3)

    assert asyncio.run(scenario())[0] == [6]
    assert engine.sizes == [1, 1]


@pytest.mark.parametrize("rows", [1, 5])
def test_the_engine_is_told_until_when_somebody_waits(rows):
    seen = []

    def compute(signature, inputs):
        seen.append(left_s(math.inf))
        return {"y": inputs["x"]}

    asyncio.run(_infer(_batcher(compute, max_batch_size=2), *range(rows), timeout_s=50))
    assert all(40 < left <= 50 for left in seen)


def test_a_caller_that_goes_away_leaves_the_others_alone():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=4)
        running = asyncio.create_task(_infer(batcher, 1))
        await asyncio.to_thread(engine.entered.wait)
        gone = asyncio.create_task(_infer(batcher, 2))
        stays = asyncio.create_task(_infer(batcher, 3))
        while batcher.queued < 2:
            await asyncio.sleep(0)
        gone.cancel()
        engine.gate.set()
        await running
        return await stays

    assert asyncio.run(scenario())[0] == [6]
    assert engine.sizes == [1, 1]


def test_a_lonely_short_request_runs_on_the_event_loop_once_its_size_is_known(monkeypatch):
    monkeypatch.setattr(module, "INLINE_LIMIT_S", math.inf)  # however busy the machine is
    engine = Doubler()

    async def scenario():
        batcher = _batcher(engine)
        await _infer(batcher, 1, alone=True)
        engine.threads.clear()
        await _infer(batcher, 2, alone=True)
        return threading.get_ident()

    assert engine.threads == {asyncio.run(scenario())} or engine.threads == {
        threading.main_thread().ident
    }


def test_a_lonely_request_that_takes_too_long_after_all_is_told_so():
    def sometimes_slow(signature, inputs):
        if inputs["x"][0] == 2:
            threading.Event().wait(0.03)
        return {"y": inputs["x"]}

    async def scenario():
        batcher = _batcher(sometimes_slow)
        await _infer(batcher, 1, alone=True)
        with pytest.raises(DeadlineExceeded):
            await _infer(batcher, 2, alone=True, timeout_s=0.01)

    asyncio.run(scenario())


def test_a_signature_without_a_batch_dimension_runs_by_itself_unpadded():
    engine = Doubler()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=8)
        return await asyncio.gather(
            _infer(batcher, 1, 2, 3, batched=False), _infer(batcher, 4, 5, 6, batched=False)
        )

    assert [answer for answer, _ in asyncio.run(scenario())] == [[2, 4, 6], [8, 10, 12]]
    assert engine.sizes == [3, 3]


def test_no_rows_at_all_is_a_request_too():
    async def scenario():
        batcher = _batcher(Doubler(), max_batch_size=8)
        return await _infer(batcher)

    assert asyncio.run(scenario())[0] == []


def test_closing_lets_what_waits_finish():
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=1)
        tasks = [asyncio.create_task(_infer(batcher, value)) for value in (1, 2, 3)]
        await asyncio.to_thread(engine.entered.wait)
        batcher.close()
        engine.gate.set()
        return await asyncio.gather(*tasks)

    assert [answer for answer, _ in asyncio.run(scenario())] == [[2], [4], [6]]


def test_what_is_to_follow_a_close_waits_for_the_last_request():
    engine, followed = Doubler(), []
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=1)
        asked = [asyncio.ensure_future(_infer(batcher, value)) for value in (1, 2)]
        await asyncio.to_thread(engine.entered.wait, 10)
        batcher.close(then=lambda: followed.append(len(engine.sizes)))
        assert followed == []
        engine.gate.set()
        outputs = [(await each)[0] for each in asked]
        batcher.close()
        return outputs

    assert asyncio.run(scenario()) == [[2], [4]]
    assert followed == [2]


def test_a_request_that_only_waits_for_others_is_waited_for_too():
    engine, followed = Doubler(), []

    async def scenario():
        batcher = _batcher(engine, max_batch_size=2, batch_wait_timeout_s=10)
        waits = asyncio.create_task(_infer(batcher, 1))
        while batcher.queued < 1:
            await asyncio.sleep(0)
        batcher.close(then=lambda: followed.append(len(engine.sizes)))
        assert followed == []
        joins = asyncio.create_task(_infer(batcher, 2))  # it had chosen this batcher already
        return [outputs for outputs, _ in await asyncio.gather(waits, joins)]

    assert asyncio.run(scenario()) == [[2], [4]]
    assert followed == [1]


def test_what_follows_a_close_happens_once_and_later_requests_are_refused():
    followed = []

    async def scenario():
        batcher = _batcher(Doubler())
        await _infer(batcher, 1)
        batcher.close(then=lambda: followed.append(True))
        with pytest.raises(ModelNotReady, match="ask again"):
            await _infer(batcher, 2)

    asyncio.run(scenario())
    assert followed == [True]


@pytest.mark.parametrize("alone", [True, False])
def test_a_request_that_came_before_the_close_is_answered(alone):
    followed = []

    async def scenario():
        batcher = _batcher(Doubler())
        asked = asyncio.create_task(_infer(batcher, 2, timeout_s=30.0, alone=alone))
        await asyncio.sleep(0)  # alone, it gives others a turn of the loop
        batcher.close(then=lambda: followed.append(True))
        return (await asked)[0]

    assert asyncio.run(scenario()) == [4]
    assert followed == [True]


def test_a_version_that_a_request_has_chosen_is_kept_until_it_comes():
    followed = []

    async def scenario():
        batcher = _batcher(Doubler())
        with batcher.held():
            batcher.close(then=lambda: followed.append(True))
            answer, _ = await _infer(batcher, 2)
            assert followed == []
        return answer

    assert asyncio.run(scenario()) == [4]
    assert followed == [True]


def _boom(*_):
    raise ZeroDivisionError("injected")


class Exploding:
    """A watcher that raises as it is asked, or as it is shown rows."""

    def __init__(self, at):
        self._at = at

    def is_due(self):
        return _boom() if self._at == "is_due" else True

    def look(self, signature, computed):
        _boom()


def _broken_at(place, monkeypatch):
    """Return a batcher where something beside the engine raises, once it runs."""
    layers = _boom if place == "layers" else tuple
    observe = _boom if place == "observe" else lambda run, timing: None
    watcher = Exploding(place) if place in {"is_due", "look"} else None
    if place == "trace":
        monkeypatch.setattr(execution, "is_sampled", _boom)
    if place == "stamp":
        monkeypatch.setattr(module, "_stamp", _boom)
    return Batcher(Doubler(), BatchPolicy(Batching(), 100, layers=layers), observe, watcher)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("place", ["layers", "observe", "is_due", "look", "trace", "stamp"])
def test_whatever_is_raised_beside_the_engine_ends_with_its_batch(
    place, alone, monkeypatch, caplog
):
    monkeypatch.setattr(module, "INLINE_LIMIT_S", math.inf)

    async def ask(batcher):
        with following(_TRACE):
            return (await _infer(batcher, 1, alone=alone))[0]

    async def scenario():
        batcher = _broken_at(place, monkeypatch)
        batcher._estimates.seconds = lambda entry: 0.0  # known to be short
        asked = [await asyncio.gather(ask(batcher), return_exceptions=True) for _ in range(2)]
        asked.append(await asyncio.gather(ask(batcher), ask(batcher), return_exceptions=True))
        await asyncio.sleep(0)  # until the watcher has been shown the last ones
        return [answer for answers in asked for answer in answers], batcher

    answers, batcher = asyncio.run(scenario())
    if place in {"layers", "trace", "stamp"}:
        assert [type(answer) for answer in answers] == [InferenceFailed] * 4
        assert all(isinstance(answer.__cause__, ZeroDivisionError) for answer in answers)
        assert caplog.text == ""  # those who asked say so
    else:
        assert answers == [[2]] * 4
        assert caplog.text.count("beside the engine: ZeroDivisionError: injected; said once") == 1
    assert (batcher.busy_s, batcher.queued) == (0.0, 0)
    assert batcher.faults.take() >= 3
    assert batcher.faults.take() == 0


def test_a_model_that_calls_exit_fails_its_own_request_alone():
    def exits(signature, inputs):
        if (inputs["x"] == 13).any():
            raise SystemExit(1)
        return {"y": inputs["x"] * 2}

    async def scenario():
        batcher = _batcher(exits)
        asked = [_infer(batcher, value) for value in (1, 13, 2)]
        return await asyncio.gather(*asked, return_exceptions=True), batcher.busy_s

    (first, failed, last), busy_s = asyncio.run(scenario())
    assert (first[0], last[0], busy_s) == ([2], [4], 0.0)
    assert isinstance(failed, InferenceFailed)


def test_a_batch_that_no_thread_takes_fails_and_those_behind_it_too(monkeypatch):
    async def scenario():
        batcher = _batcher(Doubler(), max_batch_size=1)
        batcher._thread.shutdown()
        asked = [_infer(batcher, value) for value in (1, 2, 3)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return [type(answer) for answer in answers], batcher.busy_s

    assert asyncio.run(scenario()) == ([InferenceFailed] * 3, 0.0)


def test_it_tells_how_long_the_engine_has_been_at_its_batch(eventually):
    engine = Doubler()
    engine.gate.clear()

    async def scenario():
        batcher = _batcher(engine)
        idle = batcher.busy_s
        with pytest.raises(DeadlineExceeded):
            await _infer(batcher, 1, timeout_s=0.01)
        busy = batcher.busy_s
        engine.gate.set()
        await _infer(batcher, 2)
        return idle, busy, batcher.busy_s

    idle, busy, after = asyncio.run(scenario())
    assert (idle, after) == (0.0, 0.0)
    assert busy > 0


def test_a_closed_batcher_leaves_no_thread(eventually):
    threads = []

    def compute(signature, inputs):
        threads.append(threading.current_thread())
        return {"y": inputs["x"]}

    async def scenario():
        batcher = _batcher(compute)
        await _infer(batcher, 1)
        batcher.close()
        return batcher

    batcher = asyncio.run(scenario())
    assert eventually(lambda: not threads[0].is_alive())
    assert batcher.queued == 0  # it is still there: the thread has not ended with it


def test_a_batcher_without_requests_closes_at_once():
    followed = []
    _batcher(Doubler()).close(then=lambda: followed.append(True))
    assert followed == [True]


class Keeper:
    """An engine that keeps what is above 0, whatever was said of its rows; notes its calls."""

    def __init__(self, call=lambda x: x[x > 0]):
        self.seen = []
        self._call = call

    def __call__(self, signature, inputs):
        self.seen.append(inputs["x"].tolist())
        return {"y": self._call(inputs["x"])}


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=11), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_requests_whose_rows_turn_out_to_be_mixed_are_computed_whole(requests, max_batch_size):
    engine = Keeper()

    async def scenario():
        batcher = _batcher(engine, max_batch_size=max_batch_size)
        first = await asyncio.gather(*(_infer(batcher, *values) for values in requests))
        engine.seen.clear()
        mixed = dict(batcher.mixed)
        return first, await asyncio.gather(*(_infer(batcher, *v) for v in requests)), mixed

    first, again, mixed = asyncio.run(scenario())
    for values, (one, _), (two, _) in zip(requests, first, again, strict=True):
        assert one == two == [value for value in values if value > 0]
    if mixed:
        assert sorted(engine.seen) == sorted([float(v) for v in values] for values in requests)


def test_a_signature_that_mixed_rows_is_told_once_and_served_one_by_one_then(caplog):
    engine = Keeper(lambda x: x.sum(keepdims=True))

    async def scenario():
        batcher = _batcher(engine, max_batch_size=4)
        answers = [await asyncio.gather(*(_infer(batcher, 1, n) for n in (2, 3))) for _ in "ab"]
        return [answer for both in answers for answer, _ in both], batcher.mixed

    answers, mixed = asyncio.run(scenario())
    assert answers == [[3], [4]] * 2
    assert mixed == {"serve": "output 'y' has shape [1] for 4 rows"}
    assert engine.seen == [[1, 2, 1, 3], [1, 2], [1, 3], [1, 2], [1, 3]]
    assert caplog.text.count("computed one by one from now on") == 1


def test_pieces_that_do_not_fit_together_are_computed_as_one():
    def padded_to_the_longest(x):
        return np.ones((len(x), int(x.max())), np.float32)

    async def scenario():
        batcher = _batcher(Keeper(padded_to_the_longest), max_batch_size=2)
        return await _infer(batcher, 1, 2, 3, 4)

    assert np.shape(asyncio.run(scenario())[0]) == (4, 4)
