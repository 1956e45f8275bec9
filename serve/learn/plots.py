"""Pictures of a training, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_TRAIN, _HELD_OUT = "#9aa5b1", "#0b6e99"


def plot_learning_curves(history: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw loss and accuracy over epochs, for training and held-out data, into a PNG."""
    figure = new_figure((9, 3.6))
    left, right = figure.subplots(1, 2)
    _curves(left, history["loss"], history["val_loss"], "loss")
    _curves(right, history["accuracy"], history["val_accuracy"], "accuracy")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.legend(frameon=False)
    best = max(history["val_accuracy"])
    figure.suptitle(f"{title}: {history['val_accuracy'][-1]:.1%} held out (best {best:.1%})")
    figure.savefig(path)


def plot_losses(history: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw the loss over epochs, for training and held-out data, into a PNG."""
    figure = new_figure((5.4, 3.6))
    axes = figure.subplots()
    _curves(axes, history["loss"], history["val_loss"], "loss, nats an image")
    axes.legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path)


def plot_images(
    originals: npt.NDArray[np.float32],
    reconstructions: npt.NDArray[np.float32],
    samples: npt.NDArray[np.float32],
    path: Path,
) -> None:
    """Draw three rows of pictures [N, H, W, 1]: real, reconstructed, and drawn from the prior."""
    rows = {"held out": originals, "reconstructed": reconstructions, "drawn": samples}
    figure = new_figure((len(originals) * 0.75, 2.6))
    grid = figure.subplots(len(rows), len(originals))
    for axes_row, (name, images) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(axes_row, images, strict=True):
            axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        axes_row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    figure.savefig(path)


def plot_latent_space(
    latent: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], path: Path
) -> None:
    """Draw latent vectors [N, D] by their two directions of largest variance into a PNG."""
    centred = latent - latent.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    x, y = (centred @ directions[:2].T).T
    figure = new_figure((5.6, 4.8))
    axes = figure.subplots()
    for label in np.unique(labels):
        rows = labels == label
        axes.scatter(x[rows], y[rows], s=9, color=colormaps["tab10"](label), label=str(label))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    axes.set(title="latent space, two main directions", xticks=[], yticks=[])
    figure.savefig(path)


def plot_confusion(
    truth: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    names: Sequence[object],
    path: Path,
) -> None:
    """Draw how often each class was taken for each other one into a PNG."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (truth, predicted), 1)
    figure = new_figure((5.2, 4.8))
    axes = figure.subplots()
    # The many right predictions would hide the mistakes: colour by the root of the share.
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))  # a class may have no rows
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            colour = "white" if row == column else "black"
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    ticks = range(len(names))
    axes.set_xticks(ticks, list(map(str, names)))
    axes.set_yticks(ticks, list(map(str, names)))
    right = np.trace(counts) / max(1, counts.sum())
    axes.set(xlabel="predicted", ylabel="true", title=f"{right:.1%} right of {counts.sum():,}")
    figure.savefig(path)


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure of so many inches, for `savefig` alone: no display is asked for."""
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _curves(axes: Axes, train: Sequence[float], held_out: Sequence[float], name: str) -> None:
    epochs = range(1, len(train) + 1)
    axes.plot(epochs, train, color=_TRAIN, marker="o", markersize=3, label="training")
    axes.plot(epochs, held_out, color=_HELD_OUT, marker="o", markersize=3, label="held out")
    axes.set(xlabel="epoch", title=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
