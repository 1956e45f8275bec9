"""Pictures of a comparison and of a sweep, as PNG."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from serve.evaluation.comparison import Compared
from serve.evaluation.thresholds import Point
from serve.learn.plots import new_figure

_COLOURS = ("#0b6e99", "#c2571a", "#4d7c2a", "#7a4fa3", "#8a6d1d", "#555555")
_COST = "cost of a million requests, at the prices of strata.yaml"


def plot_figure_against_cost(compared: Sequence[Compared], path: Path) -> None:
    """Draw a point for each that has a figure into a PNG: left is cheaper.

    Accuracies are drawn, up is better; errors (down is better) where there are no accuracies.
    """
    rows = [row for row in compared if row.figures.accuracy is not None]
    shown = [(row, row.figures.accuracy or 0.0) for row in rows] or [
        (row, row.figures.figures[row.figures.figure]) for row in compared if row.figures.figure
    ]
    figure = new_figure((7.2, 4.2))
    axes = figure.subplots()
    for index, (row, value) in enumerate(shown):
        colour = _COLOURS[index % len(_COLOURS)]
        axes.scatter(row.cost, value, s=60, color=colour, zorder=3)
        axes.annotate(
            row.reference.text,
            (row.cost, value),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    axes.set_xscale("log")  # a cheap layer may cost a fiftieth of a dear one
    name = " or ".join(dict.fromkeys(row.figures.figure or "" for row, _ in shown))
    axes.set_ylabel(name if rows else f"{name}, lower is better")
    _against_cost(axes, is_part=bool(rows))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    figure.suptitle(f"{name} against cost")
    figure.savefig(path)


def plot_accuracy_against_labels(compared: Sequence[Compared], path: Path) -> None:
    """Draw a line for each model over the number of labels that its versions learned from.

    What has no accuracy is left out.
    """
    compared = [row for row in compared if row.figures.accuracy is not None]
    figure = new_figure((6.4, 4.2))
    axes = figure.subplots()
    rows = sorted(compared, key=lambda row: (row.reference.name, row.figures.labels or 0))
    ticks = sorted({row.figures.labels or 0 for row in rows})
    for index, (name, group) in enumerate(groupby(rows, lambda row: row.reference.name)):
        line = list(group)
        x = [row.figures.labels or 0 for row in line]
        y = [row.figures.accuracy or 0.0 for row in line]
        axes.plot(x, y, marker="o", color=_COLOURS[index % len(_COLOURS)], label=name)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="labels", ylabel="accuracy on held-out data")
    _tidy(axes)
    axes.legend(frameon=False, loc="lower right")
    figure.suptitle("accuracy against labels")
    figure.savefig(path)


def plot_sweep(
    title: str,
    figure_name: str,
    calibration: Sequence[Point],
    verification: Sequence[Point],
    chosen: tuple[Point, Point],
    path: Path,
) -> None:
    """Draw what each threshold costs and gives on both splits into a PNG, and the chosen one."""
    figure = new_figure((7.2, 4.2))
    axes = figure.subplots()
    for points, colour, name in (
        (calibration, "#9aa5b1", "calibration"),
        (verification, _COLOURS[0], "verification"),
    ):
        x, y = [p.cost for p in points], [p.accuracy for p in points]
        axes.scatter(x, y, s=10, color=colour, label=name)
    for point, marker in zip(chosen, ("o", "*"), strict=True):
        size = 90 if marker == "o" else 220
        axes.scatter(point.cost, point.accuracy, s=size, marker=marker, color=_COLOURS[1], zorder=3)
    axes.annotate(
        " and ".join(f"{threshold:g}" for threshold in chosen[1].thresholds),
        (chosen[1].cost, chosen[1].accuracy),
        xytext=(10, -14),
        textcoords="offset points",
        color=_COLOURS[1],
    )
    axes.set_xlim(left=0)
    axes.set_ylabel(figure_name)
    _against_cost(axes)
    axes.legend(frameon=False, loc="lower right")
    figure.suptitle(title)
    figure.savefig(path)


def _against_cost(axes: Axes, is_part: bool = True) -> None:
    axes.set_xlabel(_COST)
    axes.margins(0.15)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _tidy(axes, is_part)


def _tidy(axes: Axes, is_part: bool = True) -> None:
    if is_part:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
