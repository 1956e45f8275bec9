"""Pixels and colors of the pictures: Grafana's grid and its dark theme."""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

WIDTH_PX = 1366  # a laptop's
DPI = 100
ROW_PX, GAP_PX, HEAD_PX = 38, 8, 46
COLUMNS = 24
CANVAS, PANEL, BORDER = "#111217", "#181b1f", "#2a2e33"
TEXT, MUTED, LINE = "#d8d9da", "#8e9297", "#2c3036"
COLORS = {
    "green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "text": TEXT,
}  # fmt: skip
PALETTE = [
    "#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#3eb6c9", "#c4a2ff",
    "#96d98d", "#ffcb7d", "#8ab8ff", "#ff9cb0",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of a figure in pixels, from its upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def inner(self, left: float, top: float, right: float, bottom: float) -> "Box":
        """Return the rectangle without margins."""
        width, height = self.width - left - right, self.height - top - bottom
        return Box(self.left + left, self.top + top, width, height)


def axes_of(figure: Figure, box: Box, own: bool = False) -> Axes:
    """Return bare axes; in pixels from above, unless they have a scale of their `own`."""
    width, height = figure.get_size_inches() * DPI
    bottom = height - box.top - box.height
    axes = figure.add_axes(
        (box.left / width, bottom / height, box.width / width, box.height / height)
    )
    axes.set_axis_off()
    if not own:
        axes.set_xlim(0, box.width)
        axes.set_ylim(box.height, 0)
        axes.set_autoscale_on(False)
    return axes


def write(axes: Axes, left: float, middle: float, text: str, size: float, **look: str) -> None:
    axes.text(
        left,
        middle,
        text,
        size=size,
        color=look.get("color", TEXT),
        weight=look.get("weight", "normal"),
        ha=look.get("align", "left"),
        va="center",
    )


def width_of(text: str, size: float) -> float:
    """Return how many pixels a text is wide."""
    if not text.strip():
        return 0.0
    return float(TextPath((0, 0), text, size=size).get_extents().width) * DPI / 72
