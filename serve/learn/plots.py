"""Pictures of a training, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_TRAIN, _HELD_OUT = "#9aa5b1", "#0b6e99"


def plot_learning_curves(history: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw loss and accuracy over epochs, for training and held-out data, into a PNG."""
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _curves(left, history["loss"], history["val_loss"], "loss")
    _curves(right, history["accuracy"], history["val_accuracy"], "accuracy")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.legend(frameon=False)
    best = max(history["val_accuracy"])
    figure.suptitle(f"{title}: {history['val_accuracy'][-1]:.1%} held out (best {best:.1%})")
    figure.savefig(path)


def _curves(axes: Axes, train: Sequence[float], held_out: Sequence[float], name: str) -> None:
    epochs = range(1, len(train) + 1)
    axes.plot(epochs, train, color=_TRAIN, marker="o", markersize=3, label="training")
    axes.plot(epochs, held_out, color=_HELD_OUT, marker="o", markersize=3, label="held out")
    axes.set(xlabel="epoch", title=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
