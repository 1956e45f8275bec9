"""A version is tried once beside the replica, in what time that leaves, or not at all."""

import threading
from pathlib import Path

import pytest

from serve.engines.engine import EngineOptions
from serve.replica import background_trials
from serve.replica.background_trials import BackgroundTrials
from serve.repository.repository import Repository
from serve.selection.version_trial import JOB

_OPTIONS = EngineOptions(num_threads=2, sizes=(1, 8))


class Processes:
    """What would be run, and what it says."""

    def __init__(self):
        self.jobs = []
        self.bounds = []
        self.problem = ""
        self.ended = threading.Event()

    def __call__(self, command, bounds, log):
        self.jobs.append(JOB.validate_json(Path(command[-1]).read_bytes()))
        self.bounds.append(bounds)
        self.ended.set()
        return self.problem


@pytest.fixture
def processes(monkeypatch):
    fake = Processes()
    monkeypatch.setattr(background_trials, "run", fake)
    return fake


def _repository(tmp_path, tries_engines=True):
    return Repository(str(tmp_path), tmp_path / "cache", 5, tries_engines=tries_engines)


def test_a_version_is_tried_once_for_each_content(tmp_path, processes, eventually):
    trials = BackgroundTrials(_repository(tmp_path))
    for revision in ("a", "a", "b", "a"):
        trials.start("digits", 1, revision, _OPTIONS)
    eventually(lambda: len(processes.jobs) == 2)
    job = processes.jobs[0]
    assert (job.root, job.model, job.version, job.options) == (str(tmp_path), "digits", 1, _OPTIONS)
    assert (job.cache_dir, job.cache_max_bytes) == (str(tmp_path / "cache"), 5)
    assert all(bounds.nice for bounds in processes.bounds)


def test_nothing_is_tried_where_that_is_turned_off(tmp_path, processes):
    before = set(threading.enumerate())  # some of another test may be about to end
    BackgroundTrials(_repository(tmp_path, tries_engines=False)).start("a", 1, "a", _OPTIONS)
    started = set(threading.enumerate()) - before
    assert not [each for each in started if each.name == "try-engines"]
    assert processes.jobs == []


def test_what_hinders_a_trial_is_logged(tmp_path, processes, eventually, caplog):
    processes.problem = "it was ended by SIGKILL"
    BackgroundTrials(_repository(tmp_path)).start("digits", 1, "a", _OPTIONS)
    eventually(lambda: "its engines were not tried: it was ended by SIGKILL" in caplog.text)
