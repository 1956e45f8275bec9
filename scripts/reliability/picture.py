"""A picture of a soak: a panel for each kind of figure, a line for each that has it."""

from collections.abc import Sequence
from pathlib import Path

from cycler import cycler
from matplotlib import rcParams
from matplotlib.axes import Axes

from serve.learn.plots import new_figure

_PANELS = ("memory MB", "open files", "metrics", "disk MB")
_STYLES = ("-", "--")  # colours come again after ten lines


def draw(samples: Sequence[tuple[float, dict[str, float]]], path: Path) -> None:
    """Draw what was sampled over minutes into a PNG; each line relative to its own mean."""
    figure = new_figure((12, 10))
    for axes, kind in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        _draw_panel(axes, kind, samples)
    figure.savefig(path)


def _draw_panel(axes: Axes, kind: str, samples: Sequence[tuple[float, dict[str, float]]]) -> None:
    axes.set_prop_cycle(cycler(linestyle=_STYLES) * rcParams["axes.prop_cycle"])
    names = sorted({name for _, each in samples for name in each if name.startswith(kind)})
    for name in names:
        points = [(at / 60, each[name]) for at, each in samples if name in each]
        mean = sum(value for _, value in points) / len(points) or 1.0
        axes.plot(
            [at for at, _ in points],
            [value / mean for _, value in points],
            label=f"{name.partition(': ')[2]} ({mean:,.0f})",
            linewidth=1.2,
        )
    axes.set(title=f"{kind}, of the mean (in brackets)", xlabel="minutes", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    if names:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12)}
        axes.legend(frameon=False, fontsize=7, ncols=3, **below)
