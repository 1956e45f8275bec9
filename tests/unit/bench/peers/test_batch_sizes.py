from bench.peers import batch_sizes
from bench.peers.batch_sizes import BatchSizes, Totals, totals

_METRICS = """\
# HELP ray_model_batch_rows_bucket Rows in one engine call, without padding.
# TYPE ray_model_batch_rows_bucket gauge
ray_model_batch_rows_bucket{model="digits",le="1.0",WorkerId="a"} 4.0
ray_model_batch_rows_bucket{model="digits",le="+Inf",WorkerId="a"} 10.0
# HELP ray_model_batch_rows_sum Rows in one engine call, without padding.
# TYPE ray_model_batch_rows_sum gauge
ray_model_batch_rows_sum{model="digits",WorkerId="a"} 70.0
ray_model_batch_rows_sum{model="digits",WorkerId="b"} 5.0
# HELP ray_model_batch_rows_count Rows in one engine call, without padding.
# TYPE ray_model_batch_rows_count gauge
ray_model_batch_rows_count{model="digits",WorkerId="a"} 10.0
ray_model_batch_rows_count{model="digits",WorkerId="b"} 5.0
# HELP ray_model_batches_waiting Others.
# TYPE ray_model_batches_waiting gauge
ray_model_batches_waiting{model="digits"} 9.0
"""

_HISTOGRAM = """\
# TYPE ray_model_batch_rows histogram
ray_model_batch_rows_bucket{le="+Inf"} 10.0
ray_model_batch_rows_sum 70.0
ray_model_batch_rows_count 10.0
"""


def test_rows_and_batches_of_all_replicas_are_added_as_ray_and_as_prometheus_write_them():
    assert totals(_METRICS) == Totals(rows=75.0, batches=15.0)
    assert totals(_HISTOGRAM) == Totals(rows=70.0, batches=10.0)
    assert totals("") == Totals(0.0, 0.0)


class Metrics:
    """Metrics that arrive a look late."""

    def __init__(self, monkeypatch, *looks):
        self.looks = list(looks)
        monkeypatch.setattr(batch_sizes, "_POLL_S", 0.0)
        monkeypatch.setattr(batch_sizes, "read", self._read)

    def _read(self, url):
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def test_the_mean_is_of_the_rows_since_the_last_one_once_all_have_arrived(monkeypatch):
    Metrics(monkeypatch, None, Totals(0, 0), Totals(40, 40), Totals(100, 50), Totals(180, 60))
    sizes = BatchSizes("http://127.0.0.1:9")
    sizes.asked(100)
    assert sizes.mean_since_last() == 2.0
    sizes.asked(80)
    assert sizes.mean_since_last() == 8.0


def test_figures_that_never_arrive_give_no_mean(monkeypatch):
    Metrics(monkeypatch, Totals(99, 50))
    monkeypatch.setattr(batch_sizes, "_PATIENCE_S", 0.0)
    sizes = BatchSizes("http://127.0.0.1:9")
    sizes.asked(100)
    assert sizes.mean_since_last() is None


def test_a_platform_without_metrics_is_no_error():
    assert batch_sizes.read("http://127.0.0.1:9/metrics") is None
