import pytest

from serve.batching.execution import BatchRun
from serve.drift.monitor import Monitor
from serve.pipelines.layer_metrics import LayerRecorder
from serve.replica import version_metrics
from serve.types import NO_TENANT, Layer, Timing
from tests.unit.replica.fakes import Doubler
from tests.unit.telemetry.fakes import FakeRecorder


class Tagged(FakeRecorder):
    """A recorder that keeps the tags of what it observes, too."""

    def observe(self, name, value, **tags):
        self.observed.append((name, value, tags))

    def seen(self, name):
        return [(value, tags) for known, value, tags in self.observed if known == name]


@pytest.fixture
def recorder():
    return Tagged()


def _run(rows=3, padded_rows=4, **more):
    return BatchRun(rows, padded_rows, 0.0, 0.25, **more)


def test_a_versions_counters_begin_at_zero(recorder):
    version_metrics.begin(recorder, "3")
    for outcome in ("ok", "failed"):
        assert recorder.value("model_loads", version="3", outcome=outcome) == 0
    for name in ("model_rows", "model_padding_rows"):
        assert recorder.value(name, version="3") == 0
    assert recorder.value("model_compute_seconds", version="3", tenant=NO_TENANT) == 0


@pytest.mark.parametrize(("padded_rows", "padding"), [(3, None), (4, 1), (8, 5)])
def test_rows_are_counted_apart_from_those_that_fill_a_batch_up(recorder, padded_rows, padding):
    version_metrics.observe(recorder, "3", _run(3, padded_rows), Timing())
    assert recorder.value("model_rows", version="3") == 3
    assert recorder.value("model_padding_rows", version="3") == padding
    assert recorder.seen("model_batch_rows") == [(3, {"version": "3"})]


def test_a_batch_tells_how_long_the_engine_worked_and_its_oldest_request_waited(recorder):
    version_metrics.observe(recorder, "3", _run(), Timing(queue_s=0.5, batch_wait_s=0.125))
    told = {name: value for name, value, tags in recorder.observed if tags == {"version": "3"}}
    assert told["model_engine_duration_seconds"] == 0.25
    assert told["model_queue_duration_seconds"] == 0.5
    assert told["model_batch_wait_duration_seconds"] == 0.125


def test_refusals_are_told_by_reason_and_priority_and_begin_at_0(recorder):
    version_metrics.begin(recorder, "3")
    refused = {"version": "3", "reason": "overload", "priority": "batch"}
    assert recorder.value("model_refusals", **refused) == 0
    version_metrics.count_refused(recorder, "3", {("overload", "batch"): 2})
    version_metrics.count_refused(recorder, "3", {("overload", "batch"): 1})
    assert recorder.value("model_refusals", **refused) == 3


def test_the_engines_seconds_are_each_tenants(recorder):
    version_metrics.observe(recorder, "3", _run(tenants={"ada": 0.2, "bob": 0.05}), Timing())
    version_metrics.observe(recorder, "3", _run(tenants={"ada": 0.3}), Timing())
    assert recorder.value("model_compute_seconds", version="3", tenant="ada") == 0.5
    assert recorder.value("model_compute_seconds", version="3", tenant="bob") == 0.05


def test_a_pipelines_layers_tell_how_long_each_call_took(recorder):
    layers = (Layer("small", 0.1), Layer("large", 0.2), Layer("small", 0.3))
    version_metrics.observe(recorder, "1", _run(layers=layers), Timing())
    assert recorder.seen("pipeline_layer_duration_seconds") == [
        (0.1, {"version": "1", "layer": "small"}),
        (0.2, {"version": "1", "layer": "large"}),
        (0.3, {"version": "1", "layer": "small"}),
    ]


def _gauges(recorder):
    return {
        (name, dict(tags).get("tensor")): value
        for (name, *tags), value in recorder.gauges.items()
        if name != "model_engine"
    }


def test_a_version_that_serves_is_ready_and_tells_its_queue_and_traces(recorder):
    engine = Doubler()
    engine.retraces = 2
    version_metrics.sample(recorder, "3", 5, engine, None, 700)
    assert _gauges(recorder) == {
        ("model_ready", None): 1,
        ("model_requests_queued", None): 5,
        ("model_retraces", None): 2,
        ("model_memory_bytes", None): 700,
    }
    version_metrics.end(recorder, "3")
    assert set(_gauges(recorder).values()) == {0}


def test_one_library_computes_a_version_and_the_others_are_told_not_to(recorder):
    version_metrics.sample(recorder, "3", 0, Doubler(), None)
    told = {
        dict(tags)["engine"]: value
        for (name, *tags), value in recorder.gauges.items()
        if name == "model_engine"
    }
    assert told == {"tensorflow": 1, "openvino": 0, "onnxruntime": 0, "pipeline": 0}


def test_rows_by_layer_are_told_once_and_what_exits_saved_when_it_is_known(recorder):
    engine = Doubler()
    engine.layers = LayerRecorder(last="large")
    engine.layers.count("small", "answered", 3)
    for _ in range(2):
        version_metrics.sample(recorder, "1", 0, engine, None)
    rows = {"version": "1", "layer": "small", "outcome": "answered"}
    assert recorder.value("pipeline_layer_rows", **rows) == 3
    assert ("pipeline_compute_saved_ratio", None) not in _gauges(recorder)
    engine.layers.count("large", "answered", 1)
    engine.layers.seconds.update({"small": 1, "large": 1})
    version_metrics.sample(recorder, "1", 0, engine, None)
    assert _gauges(recorder)["pipeline_compute_saved_ratio", None] == 0.5


class Watched(Monitor):
    """A monitor that has found what it is said to have."""

    def __init__(self, scores, error):
        self._rows, self._found, self._error = 60, scores, error

    def take_rows(self):
        rows, self._rows = self._rows, 0
        return rows

    def scores(self):
        return self._found

    def reconstruction_error(self):
        return self._error


def test_drift_is_told_by_tensor_and_the_rows_looked_at_once(recorder):
    monitor = Watched({"input.x": 0.1, "output.y": 0.3}, 0.7)
    for _ in range(2):
        version_metrics.sample(recorder, "3", 0, Doubler(), monitor)
    assert recorder.value("model_drift_rows", version="3") == 60
    gauges = _gauges(recorder)
    assert gauges["model_drift_score", "input.x"] == 0.1
    assert gauges["model_drift_score", "output.y"] == 0.3
    assert gauges["model_reconstruction_error", None] == 0.7


def test_a_monitor_that_has_seen_too_little_tells_no_score(recorder):
    version_metrics.sample(recorder, "3", 0, Doubler(), Watched({}, None))
    assert not [name for name, _ in _gauges(recorder) if "drift" in name or "error" in name]
