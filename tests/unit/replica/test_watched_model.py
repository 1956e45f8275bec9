"""What a replica sees of one model in a repository; repositories are real, engines numpy."""

import gc
import os
import uuid

import pytest

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError
from serve.replica import watched_model
from serve.replica.watched_model import WatchedModel, chosen
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.selection import loading
from serve.selection.hardware import folder_of, hardware
from tests.unit.replica.fakes import Doubler

OPTIONS = EngineOptions()


def _watch(models, model="digits"):
    return WatchedModel(models.repository, model, OPTIONS)


def _watch_two_with_the_newest_loaded(models):
    """Return a model of versions 1 and 2 as a replica watches it, and what it found."""
    models.put("digits", 1)
    models.put("digits", 2)
    watched = _watch(models)
    before = dict(watched.look())
    watched.load(2)
    return watched, before


def _file(models, version, model="digits"):
    return next((models.root / model / str(version)).glob("*.keras"))


def test_other_files_under_the_same_number_are_another_revision(models):
    models.put("digits", 1)
    watched = _watch(models)
    before = dict(watched.look())
    watched.load(1)
    assert watched.look() == before
    models.put("digits", 1, factor=3)
    assert watched.look()[1] != before[1]


def test_a_version_that_was_put_anew_after_it_was_seen_to_be_gone_is_another_revision(models):
    models.put("digits", 1)
    watched = _watch(models)
    before = watched.look()[1]
    watched.load(1)
    file = _file(models, 1)
    file.rename(models.root / "away")
    file.parent.rmdir()
    assert watched.look() == {}
    models.put("digits", 1)
    assert watched.look()[1] != before


def test_a_loaded_version_stays_as_it_was_loaded_while_its_folder_is_no_whole_version(models):
    watched, before = _watch_two_with_the_newest_loaded(models)
    whole = _file(models, 2).read_bytes()
    _file(models, 2).write_bytes(whole[:20])  # somebody copies another one over it
    assert watched.look() == before
    assert "cut off" in watched.problems[2]
    assert "'" not in watched.absence  # there are versions to serve


def test_a_version_that_is_not_whole_and_was_never_loaded_is_no_version(models):
    models.put("digits", 1)
    models.put("digits", 2)
    _file(models, 2).write_bytes(b"PK")
    watched = _watch(models)
    assert list(watched.look()) == [1]


def test_a_version_that_changes_while_it_is_loaded_fails_and_its_engine_is_closed(
    models, monkeypatch
):
    models.put("digits", 1)
    watched = _watch(models)
    seen = watched.look()[1]
    engine = Doubler()

    def load(folder, options, tried=None):
        os.utime(_file(models, 1), (1, 1))
        return engine

    monkeypatch.setattr(watched_model, "load", load)
    with pytest.raises(RepositoryError, match="changed while it was read"):
        watched.load(1)
    assert engine.is_closed
    assert watched.look()[1] != seen  # so that it is tried again


def test_copies_of_versions_are_kept_while_their_engines_live_and_go_then(
    models, tmp_path, monkeypatch
):
    models.put("digits", 1)
    repository = Repository(f"memory://{uuid.uuid4().hex}", tmp_path / "cache")
    for _ in range(2):
        publish(_file(models, 1), repository, "digits")
    monkeypatch.setattr(watched_model, "load", lambda folder, options, tried: Doubler())
    watched = WatchedModel(repository, "digits", OPTIONS)
    watched.look()

    def copies():
        watched.look()
        folders = (tmp_path / "cache/digits").iterdir()
        return sorted(path.name.partition("-")[0] for path in folders if path.is_dir())

    first, second = watched.load(1), watched.load(2)
    assert copies() == ["1", "2"]
    del first
    gc.collect()
    assert copies() == ["2"]
    assert second is not None


def test_copies_of_an_earlier_run_are_there_for_the_first_load(models, tmp_path, monkeypatch):
    models.put("digits", 1)
    root = f"memory://{uuid.uuid4().hex}"
    publish(_file(models, 1), Repository(root, tmp_path / "cache"), "digits")
    Repository(root, tmp_path / "cache").fetch("digits", 1)
    repository = Repository(root, tmp_path / "cache")
    monkeypatch.setattr(repository.store, "download", None)  # would fail
    monkeypatch.setattr(watched_model, "load", lambda folder, options, tried: Doubler())
    watched = WatchedModel(repository, "digits", OPTIONS)
    watched.look()
    assert watched.load(1) is not None


def test_the_chosen_version_is_the_newest_unless_it_is_named():
    found = {0: "a", 3: "b"}
    assert chosen(found, None) == (3, "b")
    assert chosen(found, 0) == (0, "a")
    assert chosen(found, 2) == chosen({}, None) == (None, None)


def test_a_repository_that_was_empty_for_a_while_makes_nobody_forget_what_is_loaded(models):
    watched, before = _watch_two_with_the_newest_loaded(models)
    models.root.rename(models.root.with_name("away"))
    models.root.mkdir()  # as a folder is below which nothing is mounted
    assert watched.look() == {}
    models.root.rmdir()
    models.root.with_name("away").rename(models.root)
    file = _file(models, 2)
    file.write_bytes(file.read_bytes()[:20])
    assert watched.look() == before


def test_a_cache_that_fails_keeps_nobody_from_seeing_new_versions(models, monkeypatch):
    def fail(model):
        raise RepositoryError("the cache folder fails")

    models.put("digits", 1)
    watched = _watch(models)
    watched.look()
    watched.load(1)
    monkeypatch.setattr(models.repository, "drop_copies", fail)
    models.put("digits", 2)
    assert list(watched.look()) == [1, 2]


class Trials:
    """What was asked to be tried in the background."""

    def __init__(self, repository):
        self.asked = []

    def start(self, model, version, revision, options):
        self.asked.append((model, version))


@pytest.fixture
def tried(models, monkeypatch):
    """A version as a replica watches it, with what it loads: the folders of the verdicts."""
    folders = []

    def load(folder, options, tried):
        folders.append(tried)
        engine = Doubler()
        engine.reason = loading.NOT_TRIED if tried is None else "tried"
        return engine

    monkeypatch.setattr(watched_model, "load", load)
    monkeypatch.setattr(watched_model, "BackgroundTrials", Trials)
    models.put("digits", 1)
    watched = _watch(models)
    watched.look()
    return watched, folders


def _put_verdict(models, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "verdict.json").write_text("{}")
    content = models.repository.content("digits", 1)
    models.repository.engines.put(
        tmp_path / "made", "digits", content, folder_of(hardware(OPTIONS.num_gpus))
    )


def test_a_version_without_a_verdict_is_tried_in_the_background(tried):
    watched, folders = tried
    watched.load(1)
    assert folders == [None]
    assert watched._trials.asked == [("digits", 1)]


def test_a_verdict_that_appears_is_another_revision_and_is_loaded(models, tried, tmp_path):
    watched, folders = tried
    assert watched.verdict_stamp(1) is None
    _put_verdict(models, tmp_path)
    assert watched.verdict_stamp(1) is not None
    watched.load(1)
    assert (folders[0] / "verdict.json").is_file()
    assert watched._trials.asked == []
    watched._options = EngineOptions(library="tensorflow")
    assert watched.verdict_stamp(1) is None
    watched.load(1)
    assert folders[1] is None


def test_a_verdict_on_other_files_is_none(models, tried, tmp_path):
    watched, folders = tried
    _put_verdict(models, tmp_path)
    models.put("digits", 1, factor=3)
    watched.look()
    assert watched.verdict_stamp(1) is None
    watched.load(1)
    assert folders == [None]


def test_a_version_is_served_where_its_verdict_cannot_be_read(tried, monkeypatch):
    watched, folders = tried

    def away(*_):
        raise RepositoryError("the store is away")

    monkeypatch.setattr(watched._repository, "fetch_engines", away)
    monkeypatch.setattr(watched._repository.engines, "stamp", away)
    assert watched.verdict_stamp(1) is None
    assert watched.load(1) is not None
    assert folders == [None]
