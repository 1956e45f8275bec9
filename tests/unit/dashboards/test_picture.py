"""Pictures of dashboards: everything is there, in its place, and readable."""

from io import BytesIO

import pytest
from dashboards import DASHBOARDS, dashboard
from dashboards.canvas import WIDTH_PX
from dashboards.picture import drawn, place, png
from dashboards.query import panels
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

each_board = pytest.mark.parametrize("name", DASHBOARDS)


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@each_board
def test_panels_have_room_of_their_own_within_the_picture(name):
    boxes = [place(panel) for panel in dashboard(name)["panels"]]
    for i, box in enumerate(boxes):
        assert box.left >= 0
        assert box.left + box.width <= WIDTH_PX
        for other in boxes[:i]:
            beside = (
                box.left >= other.left + other.width or other.left >= box.left + box.width
            )  # fmt: skip
            below = box.top >= other.top + other.height or other.top >= box.top + box.height
            assert beside or below


@each_board
def test_a_picture_has_every_title_and_is_small(name, moment, prometheus):
    labels = {"model": "digits", "version": "1", "layer": "digits-small", "part": "queue"}
    prometheus.series = [(labels, 0.25)]
    tree = dashboard(name)
    shown = texts(drawn(tree, moment))
    assert {panel["title"] for panel in panels(tree)} <= set(shown)
    picture = png(tree, moment)
    assert len(picture) < 200_000
    assert Image.open(BytesIO(picture)).width == WIDTH_PX


@each_board
def test_a_prometheus_without_values_still_gives_a_picture(name, moment, prometheus):
    prometheus.series = []
    tree = dashboard(name)
    assert {panel["title"] for panel in panels(tree)} <= set(texts(drawn(tree, moment)))


@pytest.mark.parametrize(
    ("kind", "written"),
    [("stat", {"25%", "250 ms"}), ("table", {"25%", "250 ms"}), ("timeseries", {"digits-large"})],
)
def test_values_are_shown_in_their_units_and_series_by_their_names(
    kind, written, moment, prometheus
):
    prometheus.series = [({"model": "digits-large"}, 0.25)]
    tree = dashboard("overview")
    of_kind = [panel for panel in panels(tree) if panel["type"] == kind]
    assert written <= set(texts(drawn({**tree, "panels": of_kind}, moment)))


def test_many_series_leave_room_for_the_chart_and_stay_in_their_panel(moment, prometheus):
    prometheus.series = [({"model": f"a-model-with-a-long-name-{i}"}, 1.0) for i in range(40)]
    tree = dashboard("overview")
    traffic = [panel for panel in panels(tree) if panel["title"] == "Traffic"]
    figure = drawn({**tree, "panels": traffic}, moment)
    renderer = FigureCanvasAgg(figure).get_renderer()
    named = [(axes, text) for axes in figure.axes for text in axes.texts
             if text.get_text().startswith("a-model")]  # fmt: skip
    assert named
    for axes, text in named:
        assert text.get_window_extent(renderer).x1 <= axes.get_window_extent(renderer).x1 + 1
    heights = [axes.get_window_extent(renderer).height for axes in figure.axes if axes.lines]
    assert max(heights) > place(traffic[0]).height / 3
