"""`strata train`: what a recipe leaves behind becomes versions that can be served and watched."""

import json
import zipfile

import pytest

from serve.learn.recipes import RECIPES
from serve.repository.publish import publish
from serve.repository.repository import Repository


@pytest.fixture
def tiny(monkeypatch):
    """A recipe that takes no time; those of serve.learn are trained by their own tests."""
    monkeypatch.setitem(RECIPES, "tiny", "tests.unit.cli.recipe")


def test_train_tells_how_good_the_model_is_and_publishes_it(strata, config, tiny):
    code, printed, error = strata("train", "tiny", "--epochs", "2", "-c", config)
    assert code == 0
    trained, *published = printed.splitlines()
    assert trained == "tiny: 12.5% held-out accuracy after 2 epochs, 3 s"
    assert [line.split(" (")[0] for line in published] == [
        "published tiny version 1",
        "computed by tensorflow: openvino: it lies",
        "published tiny-beside version 100",
        "computed by tensorflow: openvino: it lies",
    ]
    assert [" ".join(line.split()) for line in error.splitlines()] == [
        "training tiny 100% trained",
        *["engines: trying openvino 1.0"] * 2,
    ]


def test_a_trained_version_knows_its_data_its_signature_and_its_drift_baseline(
    strata, config, tiny
):
    strata("train", "tiny", "-c", config)
    version = config.parent / "models" / "tiny-beside" / "100"
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest["metadata"] == {"data": "digits", "epochs": 7, "labels": 100}
    assert [each["name"] for each in manifest["signature"]["inputs"]] == ["image"]
    baseline = json.loads((version / "drift-baseline.json").read_text())
    assert baseline["rows"] == 1000, "of what was held out from the training"


def test_several_are_trained_one_after_the_other_but_for_what_another_made(
    strata, config, tiny, monkeypatch
):
    for name in ("another", "tiny-beside"):
        monkeypatch.setitem(RECIPES, name, "tests.unit.cli.recipe")
    code, printed, error = strata("train", "tiny", "tiny-beside", "another", "-c", config)
    assert code == 1, "its version 100 is there already"
    assert "100" in error.splitlines()[-1]
    assert strata("train", "tiny", "tiny-beside", "--if-missing", "-c", config) == (0, "", "")
    assert printed.startswith("tiny: ")


@pytest.fixture
def with_a_version(config, tmp_path):
    """The strata.yaml of a repository with a version of `nothing`, which cannot be trained."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", bytes(2000))
    repository = Repository(str(config.parent / "models"), tmp_path / "cache")
    publish(tmp_path / "model.keras", repository, "nothing")
    return config


def test_a_model_that_is_there_is_not_trained_again_if_told_so(strata, with_a_version):
    assert strata("train", "nothing", "--if-missing", "-c", with_a_version) == (0, "", "")


@pytest.mark.parametrize("options", [[], ["--if-missing"]])
def test_a_name_without_a_recipe_lists_those_that_have_one(refused, config, options):
    said = refused("train", "nothing", *options, "-c", config)
    assert "has no recipe (known: digits" in said


def test_training_takes_an_epoch_at_least(strata, config):
    code, _, error = strata("train", "digits", "--epochs", "0", "-c", config)
    assert code == 2
    assert "--epochs" in error
