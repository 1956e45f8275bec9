"""`strata compare`: how figures are shown; that they are right is tested with what measures."""

import json
from dataclasses import replace

import pytest

from serve.evaluation.comparison import Compared
from serve.evaluation.measure import Figures
from serve.evaluation.quality import Asked
from serve.evaluation.subject import Reference

_CHEAP = Figures(
    *(0.98125, 41_234.6, 0.0241, 0.31, 8_120, 1_250, 301.4, 100),
    engines=["onnxruntime"],
    added_mb=0.2,
)
_BY_ENGINE = {"tensorflow": 0.02, "onnxruntime": 0.0123, "openvino": 0.0121}
_DEAR = Figures(None, 1_012.0, 12.41, 35.6, 2_500_000, None, 612.0, 1000, "not measured", None)
_ERRORS = {"measure": "regression: 'y'", "figure": "MAE", "figures": {"MAE": 0.31, "RMSE": 0.5}}
_SIGMOID = {"measure": "binary: 'p' > 0.5 is yes", "figures": {"accuracy": 0.98125}}


@pytest.fixture
def measured_figures():
    return [_CHEAP, _DEAR]


@pytest.fixture
def by_engine():
    return dict(_BY_ENGINE)


@pytest.fixture
def pools():
    return [None, None]


@pytest.fixture
def measured(monkeypatch, measured_figures, by_engine, pools):
    """Give figures to what is compared, where each would be measured in a process of its own."""
    asked = []

    def compare(config, path, references, data, measure, progress):
        asked.append((references, data, measure))
        costs = (0.0123, 1.5), (by_engine, {})
        rows = zip(references, measured_figures, *costs, pools, strict=True)
        return [Compared(*row) for row in rows]

    monkeypatch.setattr("serve.cli.compare.compare_all", compare)
    return asked


@pytest.fixture
def compare(strata, config, tmp_path, measured):
    (tmp_path / "models").mkdir()
    options = ("--data", "labelled.npz", "--output", tmp_path / "out", "-c", config)
    return lambda *names: strata("compare", *names, *options)


def test_figures_are_rounded_to_what_they_are_worth(compare, measured):
    code, printed, _ = compare("cheap", "dear@2")
    assert code == 0
    rows = [line.split() for line in printed.splitlines()]
    assert [
        "cheap",
        "98.1%",
        "onnx",
        "41,235",
        "0.02",
        "0.3",
        "8.12k",
        "1.25k",
        "301",
        "0.0123",
    ] in rows
    assert ["dear@2", "-", "-", "1,012", "12", "36", "2.5M", "-", "612", "1.5000"] in rows
    assert measured == [([Reference("cheap"), Reference("dear", 2)], "labelled.npz", Asked())]


def test_the_table_fits_a_terminal_of_80_columns(compare):
    _, printed, _ = compare("cheap", "dear@2")
    table = printed.splitlines()[:5]
    assert "dear: not measured" in printed.replace("@2", "")
    assert max(map(len, table)) <= 80
    words = set(" ".join(table).split())
    assert {"MODEL", "ACCURACY", "ROWS/S", "P50", "P99", "PARAMS", "FLOPS", "COST"} <= words


def test_what_is_measured_is_asked_for_by_options(compare, measured):
    code, _, _ = compare("cheap", "dear", "--measure", "binary", "--tensor", "p", "--yes-above", 0)
    assert code == 0
    assert measured[0][-1] == Asked("binary", "p", 0.0)


def test_what_was_measured_is_named_and_a_figure_that_is_no_accuracy_too(compare, measured_figures):
    measured_figures[0] = replace(_CHEAP, **_SIGMOID)
    measured_figures[1] = replace(_DEAR, **_ERRORS)
    _, printed, _ = compare("cheap", "dear")
    lines = printed.splitlines()
    assert "cheap: binary: 'p' > 0.5 is yes" in lines
    assert "dear: regression: 'y' (MAE 0.31, RMSE 0.5)" in lines
    assert "MEASURED" in printed
    assert "accuracy 98.1%" in printed
    assert "MAE 0.31 " in printed
    assert max(map(len, lines[:5])) <= 80


def test_what_another_engine_would_save_is_said_and_how_to_have_it(compare, measured_figures):
    costs = "a million requests in full batches cost by onnxruntime 0.0123, openvino 0.0121, "
    none = "no other is 2% cheaper"
    _, printed, _ = compare("cheap", "dear")
    assert f"cheap: {costs}tensorflow 0.0200; {none}; in a pool" in printed
    assert "dear: a million" not in printed
    measured_figures[0] = replace(_CHEAP, engines=["tensorflow"], added_mb=None)
    _, printed, _ = compare("cheap@2", "dear")
    saved = "engine: openvino and strata engines cheap would save 40%"
    assert f"cheap@2: {costs}tensorflow 0.0200; {saved}" in printed.splitlines()


def test_the_engine_that_needs_no_files_is_had_by_the_config_alone(
    compare, measured_figures, by_engine
):
    by_engine["tensorflow"] = 0.00615
    _, printed, _ = compare("cheap", "dear")
    assert "; engine: tensorflow would save 50%; " in printed


def test_what_a_model_would_take_in_a_pool_is_said(compare, measured_figures):
    pool = "in a pool it would add 1 MB to the others instead of 301 of its own"
    measured_figures[0] = replace(_CHEAP, engines=["openvino", "tensorflow"])  # a pipeline's
    _, printed, _ = compare("cheap", "dear")
    assert f"cheap: {pool}" in printed.splitlines()
    assert "dear: in a pool" not in printed


def test_a_model_that_is_in_a_pool_is_not_told_to_go_there(compare, measured_figures, pools):
    pools[0] = "small"
    measured_figures[0] = replace(_CHEAP, engines=[])
    _, printed, _ = compare("cheap", "dear")
    said = "in its pool 'small' it adds 1 MB to the others instead of 301 of its own"
    assert f"cheap: {said}" in printed.splitlines()


def test_a_figure_that_all_have_heads_the_column(compare, measured_figures):
    measured_figures[:] = [replace(each, **_ERRORS) for each in (_CHEAP, _DEAR)]
    _, printed, _ = compare("cheap", "dear")
    assert "MAE" in printed.splitlines()[0] + printed.splitlines()[1]
    assert "ACCURACY" not in printed


def test_figures_and_pictures_are_saved(compare, measured_figures, tmp_path):
    measured_figures[1] = replace(_DEAR, accuracy=0.99, figure="accuracy")
    _, printed, _ = compare("cheap", "dear@2")
    folder = tmp_path / "out"
    said = f"saved compare.json, compare.png, labels.png in {folder}/"
    assert printed.splitlines()[-1] == said
    assert {path.name for path in folder.iterdir()} == {"compare.json", "compare.png", "labels.png"}
    tree = json.loads((folder / "compare.json").read_text())
    assert tree["data"] == "labelled.npz"
    assert [row["name"] for row in tree["compared"]] == ["cheap", "dear"]
    assert tree["compared"][0]["accuracy"] == 0.98125
    assert tree["compared"][0]["cost_per_million_requests_by_engine"] == _BY_ENGINE


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits@new", "'digits@new': after @ comes a version or 'all'"),
        ("digits@all", "there is no model or pipeline 'digits'"),
    ],
)
def test_what_cannot_be_compared_is_refused(refused, config, tmp_path, name, said):
    (tmp_path / "models").mkdir()
    assert said in refused("compare", name, "-c", config)
