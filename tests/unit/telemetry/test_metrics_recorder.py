"""What is counted reaches Ray once, whatever Ray raises, and never goes backwards."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.telemetry import metrics_recorder as recording
from serve.telemetry.metrics_recorder import Recorder


class FakeRay:
    """Takes values as Ray's instruments do; raises while it is `away`."""

    def __init__(self) -> None:
        self.away = False
        self.values: dict[tuple, list[float]] = {}

    def instrument(self, name, metric):
        ray = self

        class Instrument:
            def gain(self, value, tags):
                if ray.away:
                    raise RuntimeError("the agent is gone")
                assert set(tags) == set(metric.tags)
                assert value >= 0
                key = (name, *sorted(tags.items()))
                before = ray.values.get(key, [0.0])[-1]
                ray.values.setdefault(key, []).append(before + value)

            set = observe = gain

        return Instrument()

    def exported(self, name, **tags):
        return self.values.get((name, *sorted(tags.items())))


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setattr(recording, "_instrument", fake.instrument)
    return fake


def test_a_sum_is_exported_as_zero_before_it_counts(ray):
    recorder = Recorder("m")
    slow = recorder.sum("model_slow_requests", version="1")
    recorder.flush()
    slow.add(5)
    recorder.flush()
    recorder.flush()
    assert ray.exported("model_slow_requests", model="m", version="1") == [0, 5]


def test_counts_of_the_same_tags_are_one_sum_whatever_their_order(ray):
    recorder = Recorder("m")
    recorder.count("model_loads", version="1", outcome="ok")
    recorder.count("model_loads", outcome="ok", version="1")
    recorder.flush()
    assert ray.exported("model_loads", model="m", version="1", outcome="ok") == [2]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_nothing_is_lost_or_counted_twice_while_ray_comes_and_goes(steps):
    fake = FakeRay()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "_instrument", fake.instrument)
        recorder = Recorder("m")
    padding = recorder.sum("model_padding_rows", version="1")
    for rows, away in steps:
        fake.away = away
        padding.add(rows)
        recorder.flush()
    fake.away = False
    recorder.flush()
    exported = fake.exported("model_padding_rows", model="m", version="1")
    assert exported == sorted(exported)
    assert exported[-1] == sum(rows for rows, _ in steps)


def test_what_one_metric_raises_keeps_no_other_from_ray(ray, monkeypatch):
    recorder = Recorder("m")

    def broken(value, tags):
        raise ValueError("no")

    monkeypatch.setattr(recorder._instruments["model_loads"], "gain", broken)
    recorder.count("model_loads", version="1", outcome="ok")
    recorder.count("model_padding_rows", 3, version="1")
    recorder.flush()
    assert ray.exported("model_padding_rows", model="m", version="1") == [3]


def test_a_request_does_not_fail_with_its_metric_and_the_log_says_it_once(ray, caplog):
    recorder = Recorder("m")
    ray.away = True
    with caplog.at_level(logging.WARNING, "ray.serve"):
        for _ in range(3):
            recorder.observe("model_batch_rows", 4, version="1")
            recorder.gauge("model_ready", 1, version="1")
    assert [record.message for record in caplog.records] == [
        "a metric cannot be exported: the agent is gone; said once"
    ]


def test_rays_own_counter_takes_a_zero():
    recorder = Recorder("m")
    recorder.sum("model_slow_requests", version="1")
    recorder.flush()
    assert all(total.is_known for total in recorder._sums.values())
