"""What is measured is loaded as a replica loads it, and counts what its models are given."""

import numpy as np
import pytest

from serve.config.schema import Config
from serve.errors import RepositoryError
from serve.evaluation import subject as subject_module
from serve.evaluation.subject import Reference, find_served, load_subject
from serve.selection import version_trial
from tests.unit.replica.conftest import Models

SEQUENCE = {"name": "both", "kind": "sequence", "steps": [{"model": "a"}, {"model": "b"}]}
CONFIG = {
    "models": [{"name": "a", "batching": {"max_batch_size": 4}}],
    "pipelines": [{**SEQUENCE, "steps": [{"model": "a"}, {"model": "b", "inputs": {"x": "a.y"}}]}],
}


@pytest.fixture
def models(tmp_path, monkeypatch):
    models = Models(tmp_path)
    monkeypatch.setattr(version_trial.chosen, "load", models.load)
    return models


def _load(models, name, version=None):
    return load_subject(Config.model_validate(CONFIG), models.repository, Reference(name, version))


def _x(*values):
    return {"x": np.array(values, np.float32)}


def test_a_reference_is_written_as_people_write_it():
    assert Reference("digits").text == "digits"
    assert Reference("digits", 3).text == "digits@3"


def test_a_model_that_only_the_repository_has_is_measured_with_defaults():
    config = Config.model_validate(CONFIG)
    assert find_served(config, "a").batching.max_batch_size == 4
    assert find_served(config, "elsewhere").batching.max_batch_size == 64
    assert find_served(config, "both").name == "both"


def test_a_model_is_loaded_in_the_version_that_is_named_and_warm(models):
    models.put("a", 1, factor=2)
    models.put("a", 2, factor=3)
    newest, first = _load(models, "a"), _load(models, "a", 1)
    assert newest.member.compute(_x(1))["y"].tolist() == [3]
    assert first.member.compute(_x(1))["y"].tolist() == [2]
    assert models.engines[0].warm_sizes == (1, 2, 4)
    assert newest.kind is None


def test_a_version_that_is_not_there_is_refused(models):
    models.put("a", 1)
    with pytest.raises(RepositoryError):
        _load(models, "a", 7)


def test_each_model_of_a_pipeline_counts_the_rows_that_it_is_given(models):
    models.put("a", 1)
    models.put("b", 1, factor=5)
    both = _load(models, "both")
    before = [model.rows for model in both.models]
    assert both.member.compute(_x(1, 2, 3))["y"].tolist() == [10, 20, 30]
    assert [model.rows for model in both.models] == [rows + 3 for rows in before]
    assert [model.label for model in both.models] == ["a", "b"]
    assert both.kind is not None


def test_what_the_models_of_a_pipeline_do_not_say_alike_is_no_ones():
    said = [{"data": "digits", "labels": 100}, {"data": "digits", "labels": 4000}]
    assert subject_module._of_all(said) == {"data": "digits"}
