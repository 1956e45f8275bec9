"""Pictures are read back: what must be seen in them is there in its colour."""

import warnings

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from serve.learn.plots import (
    new_figure,
    plot_confusion,
    plot_images,
    plot_latent_space,
    plot_learning_curves,
    plot_losses,
)

_TRAINING, _HELD_OUT = (0x9A, 0xA5, 0xB1), (0x0B, 0x6E, 0x99)
_HISTORY = {
    "loss": [1.0, 0.6, 0.4],
    "val_loss": [0.9, 0.7, 0.65],
    "accuracy": [0.5, 0.8, 0.9],
    "val_accuracy": [0.55, 0.8, 0.75],
}


@pytest.fixture
def picture(tmp_path):
    """Draw into a file and return its pixels, [height, width, RGB]."""

    def draw(plot, *arguments):
        path = tmp_path / "picture.png"
        plot(*arguments, path)
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    return draw


def _places(pixels, colour, tolerance=12):
    """Return rows and columns of the pixels that have a colour."""
    return np.nonzero((np.abs(pixels - np.array(colour)) <= tolerance).all(axis=2))


def test_learning_curves_show_both_data_in_both_halves(picture):
    pixels = picture(plot_learning_curves, _HISTORY, "digits")
    height, width, _ = pixels.shape
    assert (height, width) == (432, 1080)  # 9 by 3.6 inches of 120 dots
    for colour in (_TRAINING, _HELD_OUT):
        _, columns = _places(pixels, colour)
        assert (columns < width / 2).sum() > 50
        assert (columns > width / 2).sum() > 50


def test_a_falling_loss_falls_and_the_held_out_one_lies_where_it_is(picture):
    pixels = picture(
        plot_losses, {"loss": [9.0, 1.0], "val_loss": [9.5, 9.5], "epochs": 2}, "digits-vae"
    )
    rows, columns = _places(pixels[:, 80:-20], _TRAINING)
    left, right = rows[columns < 150], rows[columns > 450]
    assert left.mean() < right.mean()  # rows count from the top
    held_out, columns = _places(pixels[:, 80:-20], _HELD_OUT)
    assert np.ptp(held_out[(columns > 150) & (columns < 300)]) < 8


def test_one_epoch_which_makes_no_line_is_seen_as_a_point(picture):
    history = {name: values[:1] for name, values in _HISTORY.items()}
    pixels = picture(plot_learning_curves, history, "digits")
    without_legend = pixels[:, pixels.shape[1] // 2 :]
    for colour in (_TRAINING, _HELD_OUT):
        assert _places(without_legend, colour)[0].size > 5


def test_images_are_drawn_in_three_rows_dark_on_white(picture):
    dark, white, half = (np.full((6, 28, 28, 1), value, np.float32) for value in (1, 0, 0.5))
    pixels = picture(plot_images, dark, white, half)
    pixels = pixels[:, int(pixels.shape[1] * 0.3) :]  # the names of the rows are on the left
    height = len(pixels)
    black = _places(pixels, (0, 0, 0))[0]
    grey = _places(pixels, [round(255 * part) for part in colormaps["gray_r"](0.5)[:3]])[0]
    for rows, first, last in ((black, 0, 0.4), (grey, 0.6, 1)):
        assert rows.size > 2_000
        assert first * height < rows.min() < rows.max() < last * height
    middle = pixels[int(0.4 * height) : int(0.6 * height)]
    assert (middle == 255).all()


def test_classes_have_their_own_colours_in_the_latent_space(picture):
    random = np.random.default_rng(0)
    labels = np.arange(300) % 3
    latent = random.normal(0, 0.05, (300, 16)).astype(np.float32)
    latent[:, 7] += labels  # one direction tells the classes apart
    pixels = picture(plot_latent_space, latent, labels)
    body = pixels[:, : int(pixels.shape[1] * 0.8)]  # the legend is on the right
    columns = [
        _places(body, [round(255 * part) for part in colormaps["tab10"](label)[:3]])[1]
        for label in range(3)
    ]
    assert all(places.size > 100 for places in columns)
    middle = [np.median(places) for places in columns]
    assert sorted(middle) in (middle, middle[::-1])  # in their order, either way round
    assert np.ptp(middle) > 0.5 * body.shape[1]


def _blue(share):
    return [round(255 * part) for part in colormaps["Blues"](share**0.5)[:3]]


def test_confusions_are_coloured_by_their_share_of_the_class(picture):
    truth = np.array([0] * 8 + [1] * 4)
    predicted = np.array([0] * 8 + [1, 1, 1, 0])
    pixels = picture(plot_confusion, truth, predicted, ["de", "en"])
    height, width, _ = pixels.shape
    for share, quarter in ((1, (0, 0)), (0.75, (1, 1)), (0.25, (1, 0))):
        rows, columns = _places(pixels, _blue(share), 3)
        assert rows.size > 2_000
        assert (np.median(rows) > height / 2, np.median(columns) > width / 2) == tuple(
            map(bool, quarter)
        )


@pytest.mark.parametrize("rows", [[0, 0], []])
def test_a_class_without_rows_is_drawn_empty_and_without_a_warning(picture, rows):
    truth = np.array(rows, int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = picture(plot_confusion, truth, truth, ["de", "en"])
    _, columns = _places(pixels, _blue(1), 3)
    assert (columns.size > 2_000) == bool(rows)


def test_a_figure_is_drawn_without_a_display(monkeypatch, tmp_path):
    monkeypatch.delenv("DISPLAY", raising=False)
    figure = new_figure((2, 1))
    figure.subplots().plot([0, 1])
    figure.savefig(tmp_path / "small.png")
    assert Image.open(tmp_path / "small.png").size == (240, 120)
