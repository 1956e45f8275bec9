"""Expressions as Grafana would ask them, and the answers."""

import pytest
from dashboards.query import Prometheus, expressions, series_name, substitute, table

from tests.unit.dashboards.conftest import END, RANGE_S

_BOARD = {
    "panels": [
        {"type": "row", "title": "Now"},
        {"type": "stat", "title": "Requests", "targets": [{"expr": 'a{model=~"$model"}'}]},
    ]
}


def test_expressions_have_the_values_of_variables_and_their_panels_title():
    assert expressions(_BOARD, {"model": "digits"}) == [("Requests", 'a{model=~"digits"}')]
    assert expressions(_BOARD, {}) == [("Requests", 'a{model=~".*"}')]


def test_grafanas_own_variables_are_known_and_others_are_not():
    assert substitute("rate(a[$__rate_interval])", {}) == "rate(a[1m])"
    assert substitute("increase(a[$__range])", {"__range": "300s"}) == "increase(a[300s])"
    with pytest.raises(KeyError, match="region"):
        substitute('a{region="$region"}', {})


def test_values_over_time_have_the_labels_and_the_range_that_was_asked_for(prometheus):
    prometheus.series = [({"model": "digits"}, 2.5)]
    (series,) = Prometheus(prometheus.url).over("a", END, RANGE_S)
    assert series.labels == {"model": "digits"}
    assert series.times == [END - RANGE_S, END]
    assert series.values == [2.5, 2.5]
    (asked,) = prometheus.asked
    assert float(asked["step"]) == pytest.approx(RANGE_S / 240)


def test_a_refused_expression_is_named(prometheus):
    prometheus.status = 400
    with pytest.raises(SystemExit, match="refuses 'sum'"):
        Prometheus(prometheus.url).at("sum", END)


def test_a_panel_is_asked_for_the_range_that_is_shown(prometheus, moment):
    moment.series({"expr": 'increase(a{model="$model"}[$__range])', "instant": True})
    assert prometheus.asked[0]["query"] == 'increase(a{model="digits"}[1800s])'


@pytest.mark.parametrize(
    ("legend", "labels", "name"),
    [
        ("{{model}} p99", {"model": "digits"}, "digits p99"),
        ("{{ip}} GPU {{GpuIndex}}", {"ip": "no"}, "no GPU"),
        ("queued", {"model": "digits"}, "queued"),
        ("", {"model": "digits", "slo": "latency"}, "digits, latency"),
    ],
)
def test_a_series_is_called_by_its_legend(legend, labels, name):
    assert series_name(legend, labels) == name


def test_a_table_joins_its_columns_by_labels_and_leaves_out_what_is_excluded(prometheus, moment):
    prometheus.series = [({"model": "b"}, 2.0), ({"model": "a"}, 1.0)]
    organize = {
        "indexByName": {"model": 0, "Value #A": 1, "Value #B": 2},
        "renameByName": {"Value #B": "p99"},
        "excludeByName": {"Time": True, "Value #A": True},
    }
    panel = {
        "transformations": [{"id": "merge"}, {"id": "organize", "options": organize}],
        "targets": [{"expr": "a", "instant": True}, {"expr": "b", "instant": True}],
    }
    assert table(panel, moment) == (["model", "p99"], [["a", 1.0], ["b", 2.0]])
