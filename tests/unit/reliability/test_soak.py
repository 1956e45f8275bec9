"""What was sampled becomes rows and a picture."""

from PIL import Image
from reliability.picture import draw
from reliability.soak import series, verdicts

SAMPLES = [
    (
        60.0 * minute,
        {"memory MB: gateway": 200.0 + minute, "open files: gateway": 30.0}
        | ({"metrics: series": 900.0} if minute % 2 else {}),
    )
    for minute in range(60)
]


def test_a_figure_that_is_missing_now_and_then_keeps_its_times():
    times, values = series(SAMPLES)["metrics: series"]
    assert times[:2] == [60.0, 180.0]
    assert set(values) == {900.0}


def test_each_figure_has_a_verdict():
    rows = {row[0]: row[1:] for row in verdicts(SAMPLES)}
    assert rows["memory MB: gateway"][1:] == ("+60.0 ± 0.0", "grows by 60 an hour")
    assert rows["open files: gateway"] == ("30.0", "+0.0 ± 0.0", "flat")


def test_a_picture_is_drawn(tmp_path):
    draw(SAMPLES, tmp_path / "soak.png")
    with Image.open(tmp_path / "soak.png") as picture:
        assert picture.size == (1440, 1200)
        assert len(set(picture.convert("L").resize((100, 100)).getdata())) > 10
