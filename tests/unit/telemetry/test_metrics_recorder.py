"""What is summed reaches Ray as it is, whatever Ray raises, and goes once its version has gone."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from serve.telemetry import metrics_recorder as recording
from serve.telemetry.metrics import METRICS
from serve.telemetry.metrics_recorder import Recorder


class FakeRay:
    """Takes values as Ray's gauges do; raises while it is `away`. `now` is the clock."""

    def __init__(self) -> None:
        self.away, self.now = False, 1_000.0
        self.values: dict[tuple, list[float]] = {}

    def Gauge(self, name, description, tag_keys):
        ray = self

        class Instrument:
            def set(self, value, tags):
                if ray.away:
                    raise RuntimeError("the agent is gone")
                assert set(tags) == set(tag_keys)
                ray.values.setdefault((name, *sorted(tags.items())), []).append(value)

        return Instrument()

    def monotonic(self):
        return self.now

    def told(self, name, **tags):
        return self.values.get((name, *sorted(tags.items())))

    def latest(self, name):
        """Return the values that a metric has now by its last tag but model and version."""
        found = {key: told[-1] for key, told in self.values.items() if key[0] == name}
        return {dict(key[1:]).get("le"): value for key, value in found.items()}


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setattr(recording, "ray_metrics", fake)
    monkeypatch.setattr(recording, "time", fake)
    return fake


def test_a_sum_is_told_as_zero_before_it_counts(ray):
    recorder = Recorder("m")
    slow = recorder.sum("model_slow_requests", version="1")
    recorder.flush()
    slow.add(5)
    recorder.flush()
    assert ray.told("model_slow_requests_total", model="m", version="1")[:2] == [0, 5]


def test_counts_of_the_same_tags_are_one_sum_whatever_their_order(ray):
    recorder = Recorder("m")
    recorder.count("model_loads", version="1", outcome="ok")
    recorder.count("model_loads", outcome="ok", version="1")
    recorder.flush()
    assert ray.told("model_loads_total", model="m", version="1", outcome="ok") == [2]


@given(st.lists(st.floats(0, 2_000), min_size=1, max_size=40))
def test_a_histogram_has_each_value_in_the_buckets_that_hold_it_and_the_true_sum(values):
    ray = FakeRay()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "ray_metrics", ray)
        recorder = Recorder("m")
    for value in values:
        recorder.observe("model_batch_rows", value, version="1")
    recorder.flush()
    buckets = ray.latest("model_batch_rows_bucket")
    assert set(buckets) == {*(str(float(b)) for b in METRICS["model_batch_rows"].buckets), "+Inf"}
    for bound, count in buckets.items():
        assert count == sum(value <= float(bound.replace("+Inf", "inf")) for value in values)
    assert ray.latest("model_batch_rows_count") == {None: len(values)}
    assert ray.latest("model_batch_rows_sum")[None] == pytest.approx(sum(values))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_nothing_is_lost_while_ray_comes_and_goes(steps):
    ray = FakeRay()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "ray_metrics", ray)
        recorder = Recorder("m")
    padding = recorder.sum("model_padding_rows", version="1")
    for rows, away in steps:
        ray.away = away
        padding.add(rows)
        recorder.observe("model_batch_rows", rows, version="1")
        recorder.flush()
    ray.away = False
    recorder.flush()
    told = ray.told("model_padding_rows_total", model="m", version="1")
    assert told == sorted(told)
    assert told[-1] == sum(rows for rows, _ in steps)
    if steps:
        assert ray.latest("model_batch_rows_count") == {None: len(steps)}


@pytest.mark.parametrize(("in_pool", "times"), [(False, 2), (True, 5)])
def test_what_does_not_change_is_told_again_before_ray_drops_it_and_not_each_second(
    ray, in_pool, times
):
    recorder = Recorder("m", Recorder("another") if in_pool else None)
    for version in "123":
        recorder.count("model_rows", 7, version=version)
        recorder.observe("model_batch_rows", 4, version=version)
    recorder.flush()
    first = {key: len(told) for key, told in ray.values.items()}
    for _ in range(10):
        recorder.flush()
    assert {len(told) - first[key] for key, told in ray.values.items()} == {times}


def test_a_version_that_went_keeps_its_last_values_a_minute_and_then_has_no_series(ray):
    recorder = Recorder("m")
    for version in ("1", "2", "none"):
        recorder.count("model_rows", 7, version=version)
        recorder.observe("model_batch_rows", 4, version=version)
    recorder.count("internal_errors", place="task")

    def told_now(retained):
        ray.values.clear()
        recorder.retain(retained)
        for _ in range(5):
            recorder.flush()
        return {dict(key[1:]).get("version") for key in ray.values}

    everything = {"1", "2", "none", None}
    assert told_now({"1", "2", "none"}) == everything
    assert told_now({"2", "none"}) == everything
    ray.now += 59
    assert told_now({"2", "none"}) == everything
    ray.now += 2
    assert told_now({"2", "none"}) == everything - {"1"}
    recorder.count("model_rows", 1, version="1")  # it came back
    assert told_now({"1", "2", "none"}) == everything
    assert ray.told("model_rows_total", model="m", version="1")[-1] == 1


def test_thousands_of_versions_leave_nothing(ray):
    recorder = Recorder("m")
    for version in range(1_000):
        recorder.count("model_rows", 7, version=str(version))
        recorder.observe("model_batch_rows", 4, version=str(version))
        ray.now += 10
        recorder.retain({str(version)})
    assert len(recorder._sums) + len(recorder._distributions) + len(recorder._leaving) < 30


def test_what_one_metric_raises_keeps_no_other_from_ray(ray, monkeypatch):
    recorder = Recorder("m")

    def broken(value, tags):
        raise ValueError("no")

    monkeypatch.setattr(recorder._instruments["model_loads_total"], "set", broken)
    recorder.count("model_loads", version="1", outcome="ok")
    recorder.count("model_padding_rows", 3, version="1")
    recorder.flush()
    assert ray.told("model_padding_rows_total", model="m", version="1") == [3]


def test_a_request_does_not_fail_with_its_metric_and_the_log_says_it_once(ray, caplog):
    recorder = Recorder("m")
    ray.away = True
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for _ in range(3):
            recorder.observe("model_batch_rows", 4, version="1")
            recorder.gauge("model_ready", 1, version="1")
            recorder.flush()
    assert [record.message for record in caplog.records] == [
        "a metric cannot be exported: the agent is gone; said once"
    ]


def test_rays_own_gauges_take_every_metric(caplog):
    recorder = Recorder("m")
    recorder.sum("model_slow_requests", version="1")
    recorder.observe("model_batch_rows", 4, version="1")
    recorder.gauge("model_ready", 1, version="1")
    recorder.flush()
    assert caplog.text == ""


def test_recorders_beside_each_other_share_instruments_and_no_values(ray):
    first = Recorder("a")
    made = len(first._instruments)
    second = Recorder("b", first)
    assert second._instruments is first._instruments
    assert made == len(first._instruments)
    first.sum("model_rows", version="1").add(2)
    second.sum("model_rows", version="1").add(3)
    for recorder in (first, second):
        recorder.flush()
    assert ray.told("model_rows_total", model="a", version="1") == [2]
    assert ray.told("model_rows_total", model="b", version="1") == [3]


def test_rays_agent_shows_as_many_series_of_a_name_as_there_are():
    """Its OpenTelemetry may have a bound, of all that ever were: new versions would be missing."""
    registry = CollectorRegistry()
    meters = MeterProvider([PrometheusMetricReader(registry=registry)])
    versions = [str(number) for number in range(5000)]

    def observed(_):
        return [Observation(1.0, {"version": version}) for version in versions]

    meters.get_meter("agent").create_observable_gauge("ray_model_ready", [observed])
    page = generate_latest(registry).decode()
    assert [version for version in versions if f'version="{version}"' not in page] == []
    versions[:] = ["new"]
    page = generate_latest(registry).decode()
    assert ('version="new"' in page, 'version="7"' in page) == (True, False)
