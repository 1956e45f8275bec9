"""One call of the engine for many requests, and what each of them gets."""

import asyncio
import gc
import math
import time

import numpy as np
import pytest

from serve.batching.deadline import left_s
from serve.batching.execution import Entry, run, share_out, show, total
from serve.errors import DeadlineExceeded, InferenceFailed, InvalidRequest, ModelNotReady, QueueFull
from serve.telemetry.faults import Faults
from serve.telemetry.trace_context import CURRENT
from serve.types import Layer, Timing

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


@pytest.fixture
def loop():
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def entry(loop):
    def make(*values, key="x", **more):
        inputs = {"x": np.array(values, np.float32)}
        future = loop.create_future()
        return Entry(
            signature="serve",
            inputs=inputs,
            rows=len(values),
            key=key,
            future=future,
            arrived=0.0,
            **more,
        )

    return make


def double(signature, inputs):
    if (inputs["x"] == 13).any():
        raise ValueError("thirteen")
    return {"y": inputs["x"] * 2}


def test_each_gets_its_own_rows_of_one_padded_call(entry):
    seen = []

    def compute(signature, inputs):
        seen.append(len(inputs["x"]))
        return double(signature, inputs)

    results, batch_run = run(compute, [entry(1, 2), entry(3)], (1, 2, 4))
    assert [result["y"].tolist() for result in results] == [[2, 4], [6]]
    assert seen == [4]
    assert (batch_run.rows, batch_run.padded_rows) == (3, 4)


def test_only_the_cause_of_a_failed_batch_fails(entry):
    results, _ = run(double, [entry(1), entry(13), entry(2)], (1, 2, 4))
    assert results[0]["y"].tolist() == [2]
    assert results[2]["y"].tolist() == [4]
    assert isinstance(results[1], InferenceFailed)
    assert isinstance(results[1].__cause__, ValueError)


def test_each_of_a_failed_batch_is_tried_once_more_at_a_size_that_is_warm(entry):
    seen = []

    def compute(signature, inputs):
        seen.append(len(inputs["x"]))
        return double(signature, inputs)

    _, batch_run = run(compute, [entry(1, 2, 3), entry(13), entry(4, 5)], (1, 2, 4, 8))
    assert seen == [8, 4, 1, 2]
    assert (batch_run.rows, batch_run.padded_rows) == (6, 8)


@pytest.mark.parametrize("error", [DeadlineExceeded, ModelNotReady, QueueFull])
def test_a_batch_that_failed_by_no_row_is_not_tried_row_by_row(entry, error):
    calls = []

    def late(signature, inputs):
        calls.append(len(inputs["x"]))
        raise error("a member was late, away or full")

    results, _ = run(late, [entry(1), entry(2), entry(3)], (1, 2, 4))
    assert [type(result) for result in results] == [error] * 3
    assert calls == [4]


def test_an_error_of_ours_stays_the_one_it_is(entry):
    def refuse(signature, inputs):
        raise InvalidRequest("no branch")

    (result,), _ = run(refuse, [entry(1)], (1,))
    assert isinstance(result, InvalidRequest)


def test_what_runs_by_itself_is_not_padded(entry):
    (result,), batch_run = run(double, [entry(1, 2, 3, key=None)], (1, 2, 4))
    assert result["y"].tolist() == [2, 4, 6]
    assert batch_run.padded_rows == 3


def test_the_seconds_are_shared_out_by_rows_to_tenants(entry):
    entries = [entry(1, 2, 3, tenant="web"), entry(4, tenant="batch"), entry(tenant="web")]
    _, batch_run = run(double, entries, (8,))
    shares = batch_run.tenants
    assert sum(shares.values()) == pytest.approx(batch_run.engine_s)
    # A request without rows has been a call all the same, and counts as one row.
    assert shares["web"] / shares["batch"] == pytest.approx(4)


def test_who_wants_to_know_is_told_its_seconds_however_its_future_ended(entry):
    told = []
    entries = [
        entry(1, 2, 3, charge=lambda seconds: told.append(("three", seconds))),
        entry(4),
        entry(charge=lambda seconds: told.append(("none", seconds))),
        entry(5, 6, 7, charge=lambda seconds: told.append(("piece", seconds))).cut(2),
    ]
    entries[0].future.cancel()
    _, batch_run = run(double, entries, [8])
    share_out(entries, batch_run)
    seventh = batch_run.engine_s / 7
    assert told == [
        ("three", pytest.approx(3 * seventh)),
        ("none", pytest.approx(seventh)),  # it has been a call all the same
        ("piece", pytest.approx(2 * seventh)),
    ]


def test_a_request_that_is_alone_in_its_batch_has_all_the_seconds(entry):
    _, batch_run = run(double, [entry(1, tenant="web")], (1,))
    assert batch_run.tenants == {"web": batch_run.engine_s}


def test_a_run_has_the_layers_of_its_call(entry):
    layers = (Layer("small", 0.1), Layer("large", 0.2))
    calls = []

    def compute(signature, inputs):
        calls.append(signature)
        return double(signature, inputs)

    _, batch_run = run(compute, [entry(1)], (1,), lambda: layers if calls else ())
    assert batch_run.layers == layers


def test_a_batch_works_for_the_recorded_trace_of_those_in_it(entry):
    seen = []

    def compute(signature, inputs):
        seen.append(CURRENT.get())
        return double(signature, inputs)

    recorded, not_recorded = {"traceparent": TRACE + "01"}, {"traceparent": TRACE + "00"}
    run(compute, [entry(1), entry(2, trace=not_recorded), entry(3, trace=recorded)], (4,))
    run(compute, [entry(1), entry(2, trace=not_recorded)], (4,))
    run(compute, [entry(1)], (4,))
    assert seen == [recorded, not_recorded, None]
    assert CURRENT.get() is None


def test_a_batch_has_until_the_last_of_its_requests_is_given_up(entry):
    seen = []

    def compute(signature, inputs):
        seen.append(left_s(math.inf))
        return double(signature, inputs)

    now = time.perf_counter()
    run(compute, [entry(1, deadline=now + 10), entry(2, deadline=now + 100)], (2,))
    run(compute, [entry(1, deadline=now + 50)], (2,))
    assert 90 < seen[0] <= 100
    assert 40 < seen[1] <= 50


def test_nothing_to_run_is_no_call():
    results, batch_run = run(lambda *_: pytest.fail("called"), [], (1,))
    assert results == []
    assert batch_run.engine_s == 0


def test_a_future_is_finished_once(entry):
    late = entry(1)
    late.finish(DeadlineExceeded("too late"))
    late.finish({"y": np.zeros(1)})
    with pytest.raises(DeadlineExceeded):
        late.future.result()
    in_time = entry(1)
    in_time.finish({"y": np.ones(1)})
    in_time.finish(DeadlineExceeded("too late"))
    assert in_time.future.result()["y"] == 1


def test_what_is_abandoned_is_cancelled_and_no_error_is_left_unseen(entry, loop):
    complaints = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    waiting, failed = entry(1), entry(2)
    failed.finish(InferenceFailed("hidden by another piece's"))
    waiting.abandon()
    failed.abandon()
    assert waiting.future.cancelled()
    del failed
    gc.collect()  # asyncio complains of an error that nobody looked at when its future goes
    assert complaints == []


def test_a_watcher_sees_what_did_not_fail_after_the_loops_turn(entry, loop):
    class Watcher:
        seen = None

        def look(self, signature, computed):
            self.seen = [(i["x"].tolist(), o["y"].tolist()) for i, o in computed]

    watcher = Watcher()

    async def scenario():
        results = [{"y": np.array([2.0])}, InferenceFailed("no")]
        show(watcher, [entry(1), entry(13)], results, Faults("batch", "here"))
        assert watcher.seen is None
        await asyncio.sleep(0)

    loop.run_until_complete(scenario())
    assert watcher.seen == [([1.0], [2.0])]


def test_the_pieces_of_a_request_make_one_timing():
    first = Timing(0.1, 0.02, 0.3, arrived=10.0, rows=4, batch_rows=4, layers=(Layer("a", 0.3),))
    second = Timing(0.5, 0.0, 0.4, arrived=10.0, rows=2, batch_rows=6, layers=(Layer("a", 0.4),))
    whole = total([first, second])
    assert whole.engine_s == pytest.approx(0.7)
    assert whole.batch_wait_s == pytest.approx(0.02)
    # Until all is computed at 10.9; what is not its own engine's or its wait was others' turn.
    assert whole.queue_s == pytest.approx(0.9 - 0.7 - 0.02)
    assert (whole.rows, whole.batch_rows) == (6, 6)
    assert [(layer.label, layer.seconds) for layer in whole.layers] == [("a", pytest.approx(0.7))]
    assert whole.pieces == (first, second)


def test_a_request_of_many_pieces_tells_of_few_of_them_one_by_one():
    timings = [Timing(engine_s=0.1, arrived=1.0, rows=2, queue_s=0.1 * n) for n in range(1000)]
    whole = total(timings)
    assert (whole.rows, whole.engine_s) == (2000, pytest.approx(100))
    assert len(whole.pieces) == 16
    assert (whole.pieces[0], whole.pieces[-1]) == (timings[0], timings[-1])


def test_a_request_has_its_outputs_when_all_its_pieces_have_theirs_in_order(entry):
    whole = entry(1, 2, 3, 4, 5)
    pieces = [whole.cut(2), whole.cut(2)]
    assert [piece.inputs["x"].tolist() for piece in pieces] == [[1, 2], [3, 4]]
    pieces[1].finish({"y": np.array([6, 8])})
    pieces[0].finish({"y": np.array([2, 4])})
    assert not whole.future.done(), "a row is left"
    last = whole.cut(1)
    last.timing.rows = 1
    last.finish({"y": np.array([10])})
    assert whole.future.result()["y"].tolist() == [2, 4, 6, 8, 10]
    assert whole.timing.rows == 1


def test_a_request_fails_with_the_first_of_its_pieces_that_does(entry):
    whole = entry(1, 2, 3)
    first, second = whole.cut(2), whole.cut(1)
    second.finish(InferenceFailed("second"))
    first.finish({"y": np.array([2, 4])})
    first.finish(InferenceFailed("too late"))
    with pytest.raises(InferenceFailed, match="second"):
        whole.future.result()


def test_pieces_whose_outputs_differ_in_more_than_rows_are_no_answer(entry):
    whole = entry(1, 2, 3)
    first, second = whole.cut(2), whole.cut(1)
    first.finish({"boxes": np.zeros((2, 7, 4))})
    second.finish({"boxes": np.zeros((1, 5, 4))})
    with pytest.raises(InferenceFailed, match=r"'boxes' has rows of shape \[5, 4\] .* \[7, 4\]"):
        whole.future.result()
