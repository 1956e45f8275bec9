"""The panels of the dashboards, none of which can be made without unit, description and link.

A dashboard is sections of rows; `board` joins them. 24 columns are the width of a screen, a row of
the grid is 38 pixels: a laptop shows about 16 of them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

RUNBOOK = "https://github.com/strata-serve/strata/blob/main/docs/runbook.md"
# Prices are in any currency, and this is the sign of no particular one.
MONEY = "currency:¤"
WIDTH = 24
_DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
# What is chosen here stays chosen there.
_KEPT = "${datasource:queryparam}&${namespace:queryparam}&${__url_time_range}"
Panel = bargauge.Panel | stat.Panel | table.Panel | timeseries.Panel
P = TypeVar("P", bargauge.Panel, stat.Panel, table.Panel, timeseries.Panel)
Steps = Sequence[tuple[float | None, str]]


@dataclass(frozen=True, slots=True)
class Link:
    """Where a panel leads: an alert's heading in the runbook or the next dashboard."""

    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, the expression behind it, and its unit."""

    title: str
    expr: str
    unit: str = "short"


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, equally wide and `height` rows of the grid high."""

    height: int
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the rows of panels below it."""

    title: str
    rows: Sequence[Row]


def runbook(alert: str) -> Link:
    return Link(f"Runbook: {alert}", f"{RUNBOOK}#{alert.lower()}")


def to_dashboard(name: str) -> Link:
    """Return a link to another dashboard, which keeps the model that is chosen."""
    return Link(f"Dashboard: {name}", f"/d/strata-{name}?{_KEPT}&${{model:queryparam}}")


def number(
    title: str, unit: str, link: Link, text: str, *queries: Query, steps: Steps = ()
) -> stat.Panel:
    """Return big numbers, the last values, with their past behind them."""
    panel = (
        _with_heading(stat.Panel(), title, unit, link, text)
        .graph_mode(options.BigValueGraphMode.AREA)
        .color_mode(options.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps or [(None, "text")]))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    if len(queries) > 1:
        panel.text_mode(options.BigValueTextMode.VALUE_AND_NAME)
    return _with_queries(panel, queries)


def chart(
    title: str, unit: str, link: Link, text: str, *queries: Query, look: str = "lines"
) -> timeseries.Panel:
    """Return values over time: `look` is lines, stacked areas, or signed lines (below 0 too)."""
    panel = (
        _with_heading(timeseries.Panel(), title, unit, link, text)
        .line_width(1)
        .fill_opacity(60 if look == "stacked" else 0)
        .show_points(options.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(options.LegendDisplayMode.LIST)
            .placement(options.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(options.TooltipDisplayMode.MULTI)
            .sort(options.SortOrder.DESCENDING)
        )
    )
    if look != "signed":
        panel.min(0)
    if look == "stacked":
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if any("{{model}}" in query.legend for query in queries):
        to_model = f"/d/strata-model?{_KEPT}&var-model=${{__field.labels.model}}"
        panel.data_links([dashboard.DashboardLink("This model").url(to_model)])
    return _with_queries(panel, queries)


def bars(title: str, unit: str, link: Link, text: str, *queries: Query) -> bargauge.Panel:
    """Return a bar for each series, of its last value."""
    panel = (
        _with_heading(bargauge.Panel(), title, unit, link, text)
        .min(0)
        .orientation(options.VizOrientation.HORIZONTAL)
        .display_mode(options.BarGaugeDisplayMode.BASIC)
        .value_mode(options.BarGaugeValueMode.TEXT)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds([(None, "blue")]))
    )
    if unit == "percentunit":
        panel.max(1)
    return _with_queries(panel, queries, instant=True)


def listing(
    title: str, link: Link, text: str, labels: Sequence[str], *columns: Column
) -> table.Panel:
    """Return a table: a line for each combination of `labels`, which are its first columns.

    A column without a title is there for its labels alone and not shown.
    """
    panel = _with_heading(table.Panel(), title, "short", link, text).cell_height(
        options.TableCellHeight.SM
    )
    names = (
        ["Value"] if len(columns) == 1 else [f"Value #{_letter(i)}" for i in range(len(columns))]
    )
    shown = {name: column.title for name, column in zip(names, columns, strict=True)}
    order = [*labels, *names]
    for name, column in zip(names, columns, strict=True):
        panel.override_by_name(
            column.title or name, [model.DynamicConfigValue(id_val="unit", value=column.unit)]
        )
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True}
                | {n: True for n, title in shown.items() if not title},
                "indexByName": {name: i for i, name in enumerate(order)},
                "renameByName": {n: title for n, title in shown.items() if title},
            },
        )
    )
    queries = [Query(column.expr) for column in columns]
    return _with_queries(panel, queries, instant=True, form=PromQueryFormat.TABLE)


def board(
    name: str,
    text: str,
    variables: Sequence[Builder[model.VariableModel]],
    sections: Sequence[Section],
) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    made = (
        dashboard.Dashboard(f"Strata / {name.capitalize()}")
        .uid(f"strata-{name}")
        .description(text)
        .tags(["strata"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .variables([_datasource(), _namespace(), *variables])
        .link(
            dashboard.DashboardLink("Strata")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["strata"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for section in sections:
        made.with_row(dashboard.Row(section.title))
        for row in section.rows:
            for panel in row.panels:
                made.with_panel(panel.height(row.height).span(WIDTH // len(row.panels)))
    tree: dict[str, Any] = json.loads(JSONEncoder(sort_keys=True).encode(made.build()))
    # Links to one panel hold only where its number is written down.
    for identifier, panel in enumerate(tree["panels"], start=1):
        panel["id"] = identifier
    return tree


def query_variable(name: str, query: str, several: bool) -> dashboard.QueryVariable:
    """Return a variable to choose from a query's values: one, or if `several` many or all."""
    variable = (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(_DATASOURCE)
        .query({"query": query, "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        everything = model.VariableOption(selected=True, text="All", value="$__all")
        variable.all_value(".*").current(everything)
    return variable


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _namespace() -> dashboard.QueryVariable:
    return query_variable("namespace", "label_values(ray_model_ready, namespace)", several=True)


def _with_heading(panel: P, title: str, unit: str, link: Link, text: str) -> P:
    shown = dashboard.DashboardLink(link.title).url(link.url)
    shown.target_blank(link.url.startswith("https://"))
    panel.title(title).unit(unit).description(text).links([shown]).datasource(_DATASOURCE)
    return panel


def _with_queries(
    panel: P,
    queries: Sequence[Query],
    instant: bool = False,
    form: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> P:
    for index, query in enumerate(queries):
        target = Dataquery().datasource(_DATASOURCE).ref_id(_letter(index)).format(form)
        target.expr(query.expr).legend_format(query.legend)
        panel.with_target(target.instant() if instant else target.range())
    return panel


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    made = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)
