"""`strata engines`: every library with its figures, and the verdict beside the version."""

import pytest
import yaml

from serve.repository.publish import publish
from serve.repository.repository import Repository
from tests.unit.selection.fakes import write_engines


@pytest.fixture
def published(config, keras_file):
    repository = Repository(str(config.parent / "models"), config.parent / "cache")
    for _ in range(2):
        publish(keras_file, repository, "tiny")
    return repository


def test_the_newest_version_is_tried_and_every_library_listed(
    strata, config, published, trials, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    trials.verdict = write_engines(tmp_path / "engines")
    code, printed, said = strata("engines", "tiny", "-c", config)
    assert code == 0
    header, _, *rows, last = [" ".join(line.split()) for line in printed.splitlines()]
    assert header == "ENGINE ROWS/S AT 1 AT MOST LOADS IN MEMORY VERDICT"
    assert rows == [
        "tensorflow 2 100 200 9.0 s 600.0 MB right, and not chosen",
        f"openvino {trials.verdict.of('openvino').release} 200 600 0.5 s 100.0 MB chosen",
        "onnxruntime 1 - - - - output 'y'[0, 0] is 1 instead of 2",
    ]
    assert last == "computed by openvino: 3.0 times as fast"
    assert "tiny version 2: trying openvino 1.0" in said
    (kept,) = (config.parent / "models/tiny/.engines").glob("*/*/verdict.json")
    assert kept.parents[1].name == published.content("tiny", 2)


def test_a_version_that_is_named_is_tried_without_what_the_config_says_of_rows(
    strata, config, published, trials
):
    model = {"name": "tiny", "batching": {"rows": "independent"}, "engine": "openvino"}
    config.write_text(yaml.safe_dump({"repository": {"root": "models"}, "models": [model]}))
    code, printed, _ = strata("engines", "tiny", "--version", "1", "-c", config)
    assert (code, printed) == (0, "computed by tensorflow: openvino: it lies\n")
    (trial,) = trials.tried
    assert trial.version == config.parent / "models/tiny/1"
    assert (trial.options.library, trial.options.rows) == ("openvino", "auto")


def test_what_cannot_be_tried_is_refused(refused, config, published):
    assert "no model or pipeline 'other'" in refused("engines", "other", "-c", config)
    model = {"name": "tiny", "engine": "tensorflow"}
    config.write_text(yaml.safe_dump({"repository": {"root": "models"}, "models": [model]}))
    assert "'tiny' has engine: tensorflow" in refused("engines", "tiny", "-c", config)
