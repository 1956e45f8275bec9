"""Pictures are written, of a size that a page shows, with what they are about in them."""

import numpy as np
import pytest
from PIL import Image

from serve.evaluation.comparison import Compared
from serve.evaluation.measure import Figures
from serve.evaluation.plots import (
    plot_accuracy_against_labels,
    plot_figure_against_cost,
    plot_sweep,
)
from serve.evaluation.subject import Reference
from serve.evaluation.thresholds import Point


def _compared(name, accuracy, cost, labels=None, **more):
    figures = Figures(accuracy, 1000.0, 1.0, 2.0, 10, 100.0, 50.0, labels, **more)
    return Compared(Reference(name), figures, cost)


def _pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def _has(pixels, colour):
    """Tell whether a colour such as #0b6e99 is there."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((pixels == rgb).all(axis=2).any())


FIRST, SECOND = "#0b6e99", "#c2571a"


def test_each_model_with_an_accuracy_is_a_point_of_its_colour(tmp_path):
    path = tmp_path / "compare.png"
    rows = [_compared("small", 0.9, 0.01), _compared("large", 0.99, 0.5)]
    plot_figure_against_cost(rows, path)
    assert _has(_pixels(path), FIRST)
    assert _has(_pixels(path), SECOND)
    plot_figure_against_cost([rows[0], _compared("vae", None, 0.5, figure=None)], path)
    assert not _has(_pixels(path), SECOND)


def test_errors_are_drawn_where_nothing_has_an_accuracy(tmp_path):
    path = tmp_path / "compare.png"
    errors = {"figure": "MAE", "figures": {"MAE": 3.5, "RMSE": 4.0}}
    plot_figure_against_cost([_compared(name, None, 0.1, **errors) for name in "ab"], path)
    assert _has(_pixels(path), FIRST)
    assert _has(_pixels(path), SECOND)


def test_each_model_is_a_line_over_the_labels_that_its_versions_learned_from(tmp_path):
    path = tmp_path / "labels.png"
    rows = [
        _compared(name, accuracy, 0.1, labels)
        for name, accuracies in (("a", (0.7, 0.9)), ("b", (0.6, 0.95)))
        for labels, accuracy in zip((100, 4000), accuracies, strict=True)
    ]
    plot_accuracy_against_labels(rows, path)
    assert _has(_pixels(path), FIRST)
    assert _has(_pixels(path), SECOND)


@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 0.9)])
def test_a_sweep_shows_both_halves_and_what_was_chosen(tmp_path, thresholds):
    points = [Point(thresholds, 0.9, 1.0, ()), Point(thresholds, 0.95, 2.0, ())]
    path = tmp_path / "sweep.png"
    plot_sweep("thresholds of p", "accuracy", points, points, (points[0], points[1]), path)
    pixels = _pixels(path)
    assert _has(pixels, FIRST)
    assert _has(pixels, SECOND)
    assert pixels.shape[1] > pixels.shape[0] > 300
