"""Query a Prometheus for what a dashboard's panels show, as Grafana does: variables first.

For pictures of dashboards, and for tests that run every expression against a live Prometheus.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

# Everything, and Grafana's own variables at a scrape interval of 15 seconds and an hour of time.
DEFAULTS: Mapping[str, str] = {
    "namespace": ".*",
    "model": ".*",
    "version": ".*",
    "beside": ".*",
    "__rate_interval": "1m",
    "__interval": "15s",
    "__range": "1h",
}
_TIMEOUT_S = 30
_POINTS = 240  # Prometheus is asked for so many values of each line


def expressions(
    dashboard: Mapping[str, Any], variables: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return each panel's title and expression, with the variables' values in it.

    `variables` come before DEFAULTS. Raises KeyError for a variable that neither of them has.
    """
    return [
        (panel["title"], substitute(target["expr"], variables))
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the panels of a dashboard that show something; rows are only headings."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def substitute(expr: str, variables: Mapping[str, str]) -> str:
    """Return an expression with the values of variables in place of their names."""
    values = {**DEFAULTS, **variables}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expr)


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its labels, and values at seconds since the epoch."""

    labels: Mapping[str, str]
    times: list[float]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The HTTP API of a Prometheus."""

    url: str

    def over(self, expr: str, end: float, range_s: float) -> list[Series]:
        """Return the values of an expression in the `range_s` seconds before `end`."""
        step = max(range_s / _POINTS, 1.0)
        form = {"query": expr, "start": end - range_s, "end": end, "step": step}
        return [_series(one, one["values"]) for one in self._result("query_range", form)]

    def at(self, expr: str, time: float) -> list[Series]:
        """Return the value of an expression at a time, one for each series."""
        form = {"query": expr, "time": time}
        return [_series(one, [one["value"]]) for one in self._result("query", form)]

    def _result(self, path: str, form: Mapping[str, Any]) -> list[dict[str, Any]]:
        response = requests.post(f"{self.url}/api/v1/{path}", data=form, timeout=_TIMEOUT_S)
        if not response.ok:
            raise SystemExit(f"{self.url} refuses {form['query']!r}: {response.text}")
        result = response.json()["data"]["result"]
        assert isinstance(result, list), "expressions of dashboards are vectors"
        return result


def _series(result: Mapping[str, Any], values: list[tuple[float, str]]) -> Series:
    times = [float(time) for time, _ in values]
    return Series(result["metric"], times, [float(value) for _, value in values])


@dataclass(frozen=True, slots=True)
class Moment:
    """What is drawn: a Prometheus, the variables' values, and the time that is shown."""

    prometheus: Prometheus
    variables: Mapping[str, str]
    end: float
    range_s: float

    def series(self, target: Mapping[str, Any]) -> list[Series]:
        """Return the series of a panel's target: at this moment, or over the time that is shown."""
        variables = {"__range": f"{round(self.range_s)}s", **self.variables}
        expr = substitute(target["expr"], variables)
        if target.get("instant"):
            return self.prometheus.at(expr, self.end)
        return self.prometheus.over(expr, self.end, self.range_s)

    def lines(self, panel: Mapping[str, Any]) -> list[tuple[str, Series]]:
        """Return all series of a panel, each with its name."""
        return [
            (series_name(target.get("legendFormat", ""), series.labels), series)
            for target in panel["targets"]
            for series in self.series(target)
        ]


def table(panel: Mapping[str, Any], moment: Moment) -> tuple[list[str], list[list[str | float]]]:
    """Return the titles and lines of a table panel, as its transformations make them."""
    organize = next(t for t in panel["transformations"] if t["id"] == "organize")["options"]
    order = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    values = [name for name in order if name.startswith("Value")]
    labels = [name for name in order if name not in values]
    lines: dict[tuple[str, ...], dict[str, float]] = {}
    for name, target in zip(values, panel["targets"], strict=True):
        for series in moment.series(target):
            key = tuple(series.labels.get(label, "") for label in labels)
            lines.setdefault(key, {})[name] = series.values[-1]
    shown = [name for name in values if not organize["excludeByName"].get(name)]
    titles = [organize["renameByName"].get(name, name) for name in [*labels, *shown]]
    nothing = float("nan")
    return titles, [
        [*key, *(line.get(name, nothing) for name in shown)] for key, line in sorted(lines.items())
    ]


def series_name(legend: str, labels: Mapping[str, str]) -> str:
    """Return the name of a series: its legend with the labels' values, else the values alone."""
    if not legend:
        return ", ".join(labels.values())
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), legend).strip()
