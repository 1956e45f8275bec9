"""A version of a repository is tried where it lies, and its verdict found again."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.selection import version_trial
from serve.selection.loading import NOT_TRIED
from serve.selection.version_trial import (
    JOB,
    Job,
    here,
    in_background,
    load_chosen,
    try_version,
    verdict_of,
)
from tests.unit.selection.fakes import engine_of, write_engines

_OPTIONS = EngineOptions()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a version, whose engines are tried in no time."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", "{}")
    (tmp_path / "models").mkdir()
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    publish(tmp_path / "model.keras", repository, "digits")
    monkeypatch.setattr(version_trial.loading, "load", lambda folder, options: engine_of())
    monkeypatch.setattr(version_trial, "try_engines", _tried)
    _tried.trials = []
    return repository


def _tried(trial, engine, made, say):
    _tried.trials.append(trial)
    return write_engines(made)


def _job(repository):
    return Job(repository.root, str(repository.cache_dir), 10**9, "digits", 1, _OPTIONS)


def test_the_verdict_on_a_version_is_kept_and_found(repository):
    assert verdict_of(repository, "digits", 1, _OPTIONS) is None
    verdict = try_version(repository, "digits", 1, _OPTIONS)
    assert verdict_of(repository, "digits", 1, _OPTIONS) == verdict


def test_what_was_chosen_is_loaded_as_a_replica_loads_it(repository):
    assert load_chosen(repository, "digits", 1, _OPTIONS).reason == NOT_TRIED
    try_version(repository, "digits", 1, _OPTIONS)
    assert load_chosen(repository, "digits", 1, _OPTIONS).name == "openvino"
    by_own = replace(_OPTIONS, library="tensorflow")
    assert load_chosen(repository, "digits", 1, by_own).reason == "set by engine: tensorflow"


def test_a_verdict_on_other_files_is_not_found(repository, tmp_path):
    try_version(repository, "digits", 1, _OPTIONS)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr("config.json", '{"other": 1}')
    publish(tmp_path / "model.keras", repository, "digits")
    assert verdict_of(repository, "digits", 2, _OPTIONS) is None
    folder = tmp_path / "models" / "digits"
    for version, file in ((3, "model.keras"), (4, "model.keras")):  # copied by hand
        (folder / str(version)).mkdir()
        (folder / str(version) / file).write_bytes((tmp_path / file).read_bytes())
    try_version(repository, "digits", 3, _OPTIONS)
    assert verdict_of(repository, "digits", 3, _OPTIONS) is not None
    with zipfile.ZipFile(folder / "3" / "model.keras", "w") as changed:
        changed.writestr("config.json", '{"more": 12345}')
    assert verdict_of(repository, "digits", 3, _OPTIONS) is None


def test_a_broken_verdict_is_none_and_is_replaced(repository, tmp_path):
    try_version(repository, "digits", 1, _OPTIONS)
    (kept,) = (tmp_path / "models").glob("digits/.engines/*/*/verdict.json")
    assert kept.parent.name == here(_OPTIONS)
    kept.write_text("{")
    assert verdict_of(repository, "digits", 1, _OPTIONS) is None
    assert in_background(_job(repository)) == ""
    assert json.loads(kept.read_text())["chosen"] == "openvino"


def test_what_the_config_says_of_rows_is_no_verdict(repository):
    try_version(repository, "digits", 1, EngineOptions(rows="independent"))
    assert [trial.options.rows for trial in _tried.trials] == ["auto"]


def test_in_the_background_a_version_is_tried_once_with_the_time_that_is_left(repository):
    for _ in range(2):
        assert in_background(_job(repository)) == ""
    (trial,) = _tried.trials
    assert trial.nice


def test_in_the_background_nothing_is_tried_where_memory_is_short(repository, monkeypatch):
    monkeypatch.setattr(version_trial, "free_bytes", lambda: 10**9)
    said = in_background(_job(repository))
    assert "its engines are not tried here, that takes 2.0 GiB of memory and 0.9 are free" in said
    assert "run strata engines digits" in said
    assert _tried.trials == []


def test_a_version_that_changes_meanwhile_has_no_verdict(repository, tmp_path, monkeypatch):
    def changes(trial, engine, made, say):
        (tmp_path / "models" / "digits" / "1" / "model.keras").write_bytes(b"PK")
        return write_engines(made)

    monkeypatch.setattr(version_trial, "try_engines", changes)
    with pytest.raises(RepositoryError):
        try_version(repository, "digits", 1, _OPTIONS)


def test_the_process_says_what_hindered_it_in_its_last_line(repository, tmp_path):
    job = Job(repository.root, str(repository.cache_dir), 10**9, "other", 1, _OPTIONS)
    (tmp_path / "job.json").write_bytes(JOB.dump_json(job))
    command = [sys.executable, "-m", "serve.selection.version_trial", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'other' has no version 1" in done.stderr.splitlines()[-1]
