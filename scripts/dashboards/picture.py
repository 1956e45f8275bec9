"""Draw a dashboard's JSON as Grafana lays it out, with the values of a running Prometheus.

Not Grafana's own pixels: the same grid, titles, units and legends, by matplotlib. It shows what is
in a dashboard where no Grafana can be run, and draws the pictures of docs/dashboards.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from dashboards.canvas import (
    BORDER,
    CANVAS,
    COLORS,
    COLUMNS,
    DPI,
    GAP_PX,
    HEAD_PX,
    LINE,
    MUTED,
    PALETTE,
    PANEL,
    ROW_PX,
    TEXT,
    WIDTH_PX,
    Box,
    axes_of,
    width_of,
    write,
)
from dashboards.query import Moment, Series, table
from dashboards.units import written

_LEGEND_PX = 15.0  # a line of a legend


def png(dashboard: Mapping[str, Any], moment: Moment) -> bytes:
    """Return the picture of a dashboard as a PNG of 256 colors, which halves its bytes."""
    full, small = BytesIO(), BytesIO()
    drawn(dashboard, moment).savefig(full, format="png")
    colors = Image.open(full).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    colors.save(small, format="png", optimize=True)
    return small.getvalue()


def drawn(dashboard: Mapping[str, Any], moment: Moment) -> Figure:
    """Return the picture of a whole dashboard."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    height = HEAD_PX + rows * ROW_PX + GAP_PX
    mpl.rcParams.update({"font.family": "sans-serif", "text.parse_math": False})
    figure = Figure(figsize=(WIDTH_PX / DPI, height / DPI), dpi=DPI, facecolor=CANVAS)
    _head(figure, dashboard, moment)
    for panel in dashboard["panels"]:
        _panel(figure, panel, moment)
    return figure


def place(panel: Mapping[str, Any]) -> Box:
    """Return the box of a panel in the picture, by its place in the grid."""
    grid = panel["gridPos"]
    column = (WIDTH_PX - GAP_PX) / COLUMNS
    return Box(
        GAP_PX + grid["x"] * column,
        HEAD_PX + grid["y"] * ROW_PX,
        grid["w"] * column - GAP_PX,
        grid["h"] * ROW_PX - GAP_PX,
    )


def _head(figure: Figure, dashboard: Mapping[str, Any], moment: Moment) -> None:
    chosen = [
        f"{variable['label']}: {'All' if value == '.*' else value}"
        for variable in dashboard["templating"]["list"]
        if (value := moment.variables.get(variable["name"], ".*")) and variable["type"] == "query"
    ]
    until = datetime.fromtimestamp(moment.end).strftime("%H:%M")
    canvas = axes_of(figure, Box(0, 0, WIDTH_PX, HEAD_PX))
    write(canvas, 16, HEAD_PX / 2, dashboard["title"], 11, weight="bold")
    write(canvas, 240, HEAD_PX / 2, "     ".join(chosen), 8.5, color=MUTED)
    shown = f"last {round(moment.range_s / 60)} minutes, until {until}"
    write(canvas, WIDTH_PX - 16, HEAD_PX / 2, shown, 8.5, color=MUTED, align="right")


def _panel(figure: Figure, panel: Mapping[str, Any], moment: Moment) -> None:
    box = place(panel)
    canvas = axes_of(figure, box)
    if panel["type"] == "row":
        write(canvas, 4, box.height / 2, f"▾  {panel['title']}", 9.5, weight="bold")
        return
    canvas.add_patch(
        Rectangle((0, 0), box.width, box.height, facecolor=PANEL, edgecolor=BORDER, linewidth=1)
    )
    write(canvas, 10, 15, panel["title"], 8.5, weight="bold")
    _DRAWERS[panel["type"]](figure, box.inner(10, 28, 10, 8), panel, moment)


def _numbers(figure: Figure, box: Box, panel: Mapping[str, Any], moment: Moment) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    lines = moment.lines(panel)
    each = box.width / max(len(lines), 1)
    for i, (name, series) in enumerate(lines):
        part = Box(box.left + i * each, box.top, each, box.height)
        color = _threshold(series.values[-1], defaults["thresholds"]["steps"])
        # Grafana draws the past behind the numbers.
        past = axes_of(figure, part.inner(0, part.height * 0.64, 8, 0), own=True)
        past.fill_between(series.times, series.values, color=_line_color(color), alpha=0.25, lw=0)
        past.plot(series.times, series.values, color=_line_color(color), linewidth=0.8)
        past.set_ylim(min(0, *series.values), max(1e-9, *series.values) * 1.1)
        canvas = axes_of(figure, part)
        text = written(series.values[-1], defaults["unit"])
        if len(lines) > 1:
            write(canvas, 2, 8, name, 8, color=MUTED)
        size = min(22, 22 * (each - 12) / max(width_of(text, 22), 1))
        write(canvas, 2, part.height * 0.42, text, size, color=color, weight="bold")


def _chart(figure: Figure, box: Box, panel: Mapping[str, Any], moment: Moment) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    lines = moment.lines(panel)
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(lines))]
    below = _legend(figure, box, [name for name, _ in lines], colors)
    axes = axes_of(figure, box.inner(58, 4, 4, below + 18), own=True)
    if defaults["custom"].get("stacking", {}).get("mode") == "normal":
        _stack(axes, [series for _, series in lines], colors)
    else:
        for (_, series), color in zip(lines, colors, strict=True):
            axes.plot(series.times, series.values, color=color, linewidth=1.1)
    axes.set_axis_on()
    axes.set_xlim(moment.end - moment.range_s, moment.end)
    low, high = axes.get_ylim()
    values = [value for _, series in lines for value in series.values]
    high = high if any(values) else 1.0
    axes.set_ylim(0 if "min" in defaults else low, high)
    if defaults["unit"] == "bytes":
        axes.set_yticks(_powers(*axes.get_ylim()))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: written(v, defaults["unit"])))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(_clock))
    axes.tick_params(colors=MUTED, labelsize=7, length=0, pad=4)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor(PANEL)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _stack(axes: Axes, lines: Sequence[Series], colors: Sequence[str]) -> None:
    times = sorted({time for series in lines for time in series.times})
    values = [dict(zip(series.times, series.values, strict=True)) for series in lines]
    heights = [[value.get(time, 0.0) for time in times] for value in values]
    if heights:
        axes.stackplot(times, heights, colors=colors, alpha=0.6, linewidth=0)


def _legend(figure: Figure, box: Box, names: Sequence[str], colors: Sequence[str]) -> float:
    """Write a legend below a chart, which keeps half of the box; return its height in pixels."""
    rows: list[list[tuple[str, str]]] = [[]]
    used = 0.0
    for name, color in zip(names, colors, strict=True):
        wide = width_of(name, 7.5) + 34
        if rows[-1] and used + wide > box.width:
            rows.append([])
            used = 0.0
        rows[-1].append((name, color))
        used += wide
    rows = rows[: max(1, int(box.height / 2 / _LEGEND_PX))]
    height = _LEGEND_PX * len(rows)
    canvas = axes_of(figure, Box(box.left, box.top + box.height - height, box.width, height))
    for i, row in enumerate(rows):
        left, middle = 0.0, (i + 0.5) * _LEGEND_PX
        for name, color in row:
            canvas.plot([left, left + 12], [middle] * 2, color=color, linewidth=2)
            write(canvas, left + 17, middle, name, 7.5)
            left += width_of(name, 7.5) + 34
    return height


def _bars(figure: Figure, box: Box, panel: Mapping[str, Any], moment: Moment) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    lines = moment.lines(panel)
    canvas = axes_of(figure, box)
    most = panel["fieldConfig"]["defaults"].get("max")
    most = most or max([series.values[-1] for _, series in lines], default=0) or 1
    names = max([width_of(name, 8) for name, _ in lines], default=0) + 10
    room = box.width - names - 70
    each = min(box.height / max(len(lines), 1), 34)
    for i, (name, series) in enumerate(lines):
        value, middle = series.values[-1], (i + 0.5) * each
        top, thick = middle - each * 0.32, each * 0.64
        write(canvas, 0, middle, name, 8)
        canvas.add_patch(Rectangle((names, top), room, thick, facecolor=LINE, linewidth=0))
        long = room * max(value, 0) / most
        canvas.add_patch(
            Rectangle((names, top), long, thick, facecolor=COLORS["blue"], linewidth=0)
        )
        write(canvas, box.width, middle, written(value, unit), 8, align="right")


def _table(figure: Figure, box: Box, panel: Mapping[str, Any], moment: Moment) -> None:
    titles, lines = table(panel, moment)
    canvas = axes_of(figure, box)
    units = _units(panel)
    texts = [
        [
            cell if isinstance(cell, str) else written(cell, units.get(title, "short"))
            for title, cell in zip(titles, line, strict=True)
        ]
        for line in lines[: int((box.height - 22) // 22)]
    ]
    lefts = _columns([titles, *texts], box.width)
    for left, title in zip(lefts, titles, strict=True):
        write(canvas, left, 10, title, 8, color=COLORS["blue"], weight="bold")
    for row, cells in enumerate(texts):
        middle = 32 + row * 22
        canvas.plot([0, box.width], [middle - 11] * 2, color=LINE, linewidth=0.8)
        for left, text in zip(lefts, cells, strict=True):
            write(canvas, left, middle, text, 8)


def _columns(lines: Sequence[Sequence[str]], width: float) -> list[float]:
    """Return where columns begin: as wide as their texts, and the rest shared out."""
    wide = [max(width_of(text, 8.5) for text in column) for column in zip(*lines, strict=True)]
    gap = (width - sum(wide)) / len(wide)
    return [4 + sum(wide[:i]) + gap * i for i in range(len(wide))]


def _units(panel: Mapping[str, Any]) -> dict[str, str]:
    return {
        override["matcher"]["options"]: prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "unit"
    }


_DRAWERS: Mapping[str, Callable[[Figure, Box, Mapping[str, Any], Moment], None]] = {
    "stat": _numbers,
    "timeseries": _chart,
    "bargauge": _bars,
    "table": _table,
}


def _powers(low: float, high: float) -> list[float]:
    """Return ticks at multiples of a power of two, as bytes have them."""
    step = 2.0 ** math.ceil(math.log2((high - low) / 4))
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _threshold(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    passed = [step for step in steps if step.get("value") is None or value >= step["value"]]
    return COLORS[passed[-1]["color"]]


def _line_color(color: str) -> str:
    return COLORS["blue"] if color == TEXT else color


def _clock(time: float, _: Any) -> str:
    return datetime.fromtimestamp(time).strftime("%H:%M")
