import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InferenceFailed
from serve.pipelines.layer_metrics import LayerRecorder
from serve.telemetry.trace_context import CURRENT, following

_TRACE = "0af7651916cd43dd8448eb211c80319c"
_CARRIER = {"traceparent": f"00-{_TRACE}-b7ad6b7169203331-01"}
_OUTCOMES = ("answered", "passed", "abstained", "degraded")


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.tuples(st.sampled_from("ab"), st.sampled_from(_OUTCOMES), st.integers(0, 9)),
        )
    )
)
def test_every_row_is_told_once_however_often_one_asks(events):
    recorder = LayerRecorder("b")
    told, counted = {}, {}
    for event in [*events, None]:
        if event is None:
            for key, rows in recorder.take_rows().items():
                told[key] = told.get(key, 0) + rows
            continue
        label, outcome, rows = event
        recorder.count(label, outcome, rows)
        counted[label, outcome] = counted.get((label, outcome), 0) + rows
    assert told == {key: rows for key, rows in counted.items() if rows}
    assert recorder.take_rows() == {}


def test_the_latest_batchs_layers_are_told_in_the_order_they_ran():
    recorder = LayerRecorder("b")
    for labels in (("a",), ("a", "b", "a")):
        recorder.begin()
        for label in labels:
            with recorder.time(label):
                pass
    latest = recorder.latest()
    assert [layer.label for layer in latest] == ["a", "b", "a"]
    ends = [layer.started + layer.seconds for layer in latest]
    assert all(end <= then.started for end, then in zip(ends, latest[1:], strict=False))
    assert recorder.seconds["b"] == latest[1].seconds
    assert recorder.seconds["a"] > latest[0].seconds + latest[2].seconds


def test_a_layer_that_fails_has_taken_its_time_too():
    recorder = LayerRecorder("b")
    with pytest.raises(InferenceFailed), recorder.time("a"):
        raise InferenceFailed("a failed")
    (layer,) = recorder.latest()
    assert (layer.label, layer.seconds) == ("a", recorder.seconds["a"])
    assert layer.seconds > 0


def test_what_a_layer_calls_is_told_that_it_works_for_that_layers_span():
    recorder = LayerRecorder("b")
    with following(_CARRIER):
        with recorder.time("a"):
            inside = CURRENT.get()
        assert CURRENT.get() == _CARRIER
    (layer,) = recorder.latest()
    assert inside["traceparent"] == f"00-{_TRACE}-{layer.span_id:016x}-01"


def test_a_layer_outside_a_trace_has_no_span():
    recorder = LayerRecorder("b")
    with recorder.time("a"):
        assert CURRENT.get() is None
    assert recorder.latest()[0].span_id is None


def _recorder(seconds, rows):
    recorder = LayerRecorder("large")
    recorder.seconds.update(seconds)
    for (label, outcome), count in rows.items():
        recorder.count(label, outcome, count)
    return recorder


def test_nothing_is_said_to_be_saved_before_the_last_layer_has_computed():
    assert LayerRecorder("large").compute_saved() is None
    untimed = _recorder({"small": 1}, {("large", "answered"): 1})
    assert untimed.compute_saved() is None
    unasked = _recorder({"small": 1, "large": 1}, {("small", "answered"): 9})
    assert unasked.compute_saved() is None


@pytest.mark.parametrize(
    ("seconds", "rows", "saved"),
    [
        # 10 rows by the large one alone would have been 10 * 1 s.
        (
            {"small": 1, "large": 2},
            {("small", "answered"): 8, ("small", "passed"): 2, ("large", "answered"): 2},
            1 - 3 / 10,
        ),
        # A row that was abstained from, or degraded, would have cost the large one as much.
        (
            {"small": 1, "large": 1},
            {("small", "abstained"): 2, ("small", "degraded"): 1, ("large", "answered"): 1},
            1 - 2 / 4,
        ),
        # Nobody exits: the small layer's time is lost.
        ({"small": 1, "large": 2}, {("small", "passed"): 2, ("large", "answered"): 2}, -0.5),
    ],
)
def test_what_is_saved_is_against_the_last_layer_for_every_row(seconds, rows, saved):
    assert _recorder(seconds, rows).compute_saved() == pytest.approx(saved)


def test_it_is_read_while_a_batch_is_computed():
    recorder = _recorder({"large": 1}, {("large", "answered"): 1})

    def compute():
        for number in range(30_000):
            recorder.count(f"layer {number}", "answered", 1)

    thread = threading.Thread(target=compute)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        while thread.is_alive():
            recorder.compute_saved()
            recorder.take_rows()
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert sum(recorder.rows.values()) == 30_001
