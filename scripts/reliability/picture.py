"""A picture of a soak: a panel for each kind of figure, a line for each that has it."""

from collections.abc import Sequence
from pathlib import Path

from serve.learn.plots import new_figure

_PANELS = ("memory MB", "open files", "metrics", "disk MB")


def draw(samples: Sequence[tuple[float, dict[str, float]]], path: Path) -> None:
    """Draw what was sampled over minutes into a PNG; each line relative to its own mean."""
    figure = new_figure((11, 8))
    for axes, kind in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        names = sorted({name for _, each in samples for name in each if name.startswith(kind)})
        for name in names:
            points = [(at / 60, each[name]) for at, each in samples if name in each]
            mean = sum(value for _, value in points) / len(points) or 1.0
            minutes = [at for at, _ in points]
            label = f"{name.partition(': ')[2]} ({mean:,.0f})"
            axes.plot(minutes, [value / mean for _, value in points], label=label, linewidth=1.2)
        axes.set(title=f"{kind}, of the mean (in brackets)", xlabel="minutes", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        if names:
            axes.legend(frameon=False, fontsize=6, ncols=2, loc="lower left")
    figure.savefig(path)
