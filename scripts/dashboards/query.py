"""Ask a Prometheus what a dashboard's JSON asks, as Grafana would: variables first.

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
    """Return the panels that show something: rows are headings."""
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
        asked = {"query": expr, "start": end - range_s, "end": end, "step": step}
        return [_series(found, found["values"]) for found in self._ask("query_range", asked)]

    def at(self, expr: str, time: float) -> list[Series]:
        """Return the value of an expression at a time, for each series one."""
        found = self._ask("query", {"query": expr, "time": time})
        return [_series(one, [one["value"]]) for one in found]

    def _ask(self, path: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = requests.post(f"{self.url}/api/v1/{path}", data=asked, timeout=_TIMEOUT_S)
        if not answer.ok:
            raise SystemExit(f"{self.url} refuses {asked['query']!r}: {answer.text}")
        result = answer.json()["data"]["result"]
        assert isinstance(result, list), "expressions of dashboards are vectors"
        return result


def _series(found: Mapping[str, Any], values: list[tuple[float, str]]) -> Series:
    times = [float(time) for time, _ in values]
    return Series(found["metric"], times, [float(value) for _, value in values])


@dataclass(frozen=True, slots=True)
class Moment:
    """What is drawn: a Prometheus, the variables' values, and the time that is shown."""

    prometheus: Prometheus
    variables: Mapping[str, str]
    end: float
    range_s: float

    def asked(self, target: Mapping[str, Any]) -> list[Series]:
        """Return what a panel's target finds."""
        variables = {"__range": f"{round(self.range_s)}s", **self.variables}
        expr = substitute(target["expr"], variables)
        if target.get("instant"):
            return self.prometheus.at(expr, self.end)
        return self.prometheus.over(expr, self.end, self.range_s)

    def lines(self, panel: Mapping[str, Any]) -> list[tuple[str, Series]]:
        """Return all series of a panel by what they are called."""
        return [
            (named(target.get("legendFormat", ""), series.labels), series)
            for target in panel["targets"]
            for series in self.asked(target)
        ]


def table(panel: Mapping[str, Any], moment: Moment) -> tuple[list[str], list[list[str | float]]]:
    """Return titles and lines of a table, as its transformations merge and organize its targets."""
    organize = next(t for t in panel["transformations"] if t["id"] == "organize")["options"]
    order = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    values = [name for name in order if name.startswith("Value")]
    labels = [name for name in order if name not in values]
    lines: dict[tuple[str, ...], dict[str, float]] = {}
    for name, target in zip(values, panel["targets"], strict=True):
        for series in moment.asked(target):
            key = tuple(series.labels.get(label, "") for label in labels)
            lines.setdefault(key, {})[name] = series.values[-1]
    shown = [name for name in values if not organize["excludeByName"].get(name)]
    titles = [organize["renameByName"].get(name, name) for name in [*labels, *shown]]
    nothing = float("nan")
    return titles, [
        [*key, *(line.get(name, nothing) for name in shown)] for key, line in sorted(lines.items())
    ]


def named(legend: str, labels: Mapping[str, str]) -> str:
    """Return what a series is called: the legend with the labels' values, else the labels."""
    if not legend:
        return ", ".join(labels.values())
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), legend).strip()
