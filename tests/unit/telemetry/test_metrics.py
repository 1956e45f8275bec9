"""The number of time series has a bound, and nothing that a caller sends is part of it."""

import pytest

from serve.errors import Code, ServeError
from serve.telemetry.metrics import CODES, METRICS, PARTS, TAG_VALUES, series

# Series of one model's replica: with fifty tenants, every code and protocol and eight tensors
# under drift, and as replicas are by default. Prometheus takes some 3 kB of memory for each.
BUDGET = 6000
BUDGET_WITHOUT_TENANTS = 2000


def test_the_series_of_a_replica_are_within_their_budget():
    worst = {name: series(metric) for name, metric in METRICS.items()}
    assert sum(worst.values()) <= BUDGET, worst
    few = dict(TAG_VALUES, tenant=2)
    assert sum(series(metric, few) for metric in METRICS.values()) <= BUDGET_WITHOUT_TENANTS


@pytest.mark.parametrize("name", METRICS)
def test_every_tag_has_a_bound(name):
    assert set(METRICS[name].tags) <= set(TAG_VALUES)


def test_a_histogram_is_a_series_for_each_bucket_and_three_more():
    metric = METRICS["model_load_duration_seconds"]
    assert series(metric) == TAG_VALUES["version"] * (len(metric.buckets) + 3)


def test_every_status_of_an_error_is_a_code_that_is_reckoned_with():
    def below(error):
        return [error, *(e for sub in error.__subclasses__() for e in below(sub))]

    assert {error("").http_status for error in below(ServeError)} <= set(CODES)
    assert {code.value for code in Code} <= set(CODES)


def test_the_bounds_are_those_of_the_code():
    assert TAG_VALUES["part"] == len(PARTS) == len(set(PARTS))
    assert TAG_VALUES["code"] == len(set(CODES))
