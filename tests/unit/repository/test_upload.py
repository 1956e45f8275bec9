"""Uploads to a real S3-like server: what is there after each way that one can end."""

import multiprocessing
import os
import threading

import pytest

from serve.errors import RepositoryError
from serve.repository.layout import MANIFEST, PUBLISHING
from serve.repository.manifest import Manifest, record
from serve.repository.repository import Repository
from serve.repository.store import Store
from serve.repository.upload import upload

CONTEXT = multiprocessing.get_context("spawn")
_FOLDER = "digits/1"


@pytest.fixture
def staged(tmp_path, make):
    """Stage version 1 of digits, with a text that tells one publisher's files from another's."""

    def stage(publisher):
        staging = tmp_path / f"staged by {publisher}"
        staging.mkdir()
        make.keras(staging / "model.keras")
        (staging / "notes.txt").write_text(publisher)
        files = {path.name: record(path) for path in sorted(staging.iterdir())}
        manifest = Manifest("digits", 1, "keras", "2026-01-01T00:00:00+00:00", files)
        (staging / MANIFEST).write_bytes(manifest.to_json())
        return staging, manifest

    return stage


@pytest.fixture
def watcher(s3, tmp_path):
    """What a replica sees of the bucket."""
    return Repository(s3, tmp_path / "cache")


def test_an_uploaded_version_is_whole_and_its_marker_is_gone(s3, staged, watcher):
    staging, manifest = staged("one")
    assert upload(staging, Store(s3), manifest)
    assert set(Store(s3).children(_FOLDER)) == {*manifest.files, MANIFEST}
    assert watcher.versions("digits") == [1]
    for path in manifest.files:
        assert Store(s3).read(f"{_FOLDER}/{path}") == (staging / path).read_bytes()


def test_a_number_that_is_taken_is_told_and_left_as_it_is(s3, staged, watcher):
    assert upload(*_to(s3, staged("one")))
    assert not upload(*_to(s3, staged("two")))
    assert Store(s3).read(f"{_FOLDER}/notes.txt") == b"one"
    assert watcher.versions("digits") == [1]


def test_a_number_that_somebody_is_uploading_is_taken_too(s3, staged):
    assert Store(s3).create(f"{_FOLDER}/{PUBLISHING}")
    assert not upload(*_to(s3, staged("two")))
    assert set(Store(s3).children(_FOLDER)) == {PUBLISHING}


def test_of_publishers_of_one_number_one_gets_it_with_all_its_files(s3, staged, watcher):
    names = ("one", "two", "three", "four")
    ready = threading.Barrier(len(names))
    won = []

    def publish(name, arguments):
        ready.wait()
        if upload(*arguments):
            won.append(name)

    threads = [
        threading.Thread(target=publish, args=(name, _to(s3, staged(name)))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    fetched = watcher.fetch("digits", 1)  # which compares every hash
    assert (fetched / "notes.txt").read_text() == winner
    assert PUBLISHING not in Store(s3).children(_FOLDER)


def test_an_upload_that_fails_half_way_is_cleared_away_and_its_number_is_free(s3, staged, watcher):
    staging, manifest = staged("one")
    (staging / "notes.txt").unlink()  # the model is uploaded before it
    with pytest.raises(RepositoryError, match=r"notes\.txt"):
        upload(staging, Store(s3), manifest)
    assert Store(s3).children(_FOLDER) == {}
    assert watcher.numbers("digits") == []
    assert upload(*_to(s3, staged("two")))
    assert watcher.versions("digits") == [1]


def test_a_failure_does_not_clear_away_what_another_publisher_put_there(s3, staged):
    assert upload(*_to(s3, staged("one")))
    staging, manifest = staged("two")
    (staging / "notes.txt").unlink()
    assert not upload(staging, Store(s3), manifest)
    assert set(Store(s3).children(_FOLDER)) == {*manifest.files, MANIFEST}


def test_what_a_killed_publisher_leaves_is_not_taken_for_a_version(s3, staged, watcher, eventually):
    staging, manifest = staged("one")
    (staging / "notes.txt").unlink()
    os.mkfifo(staging / "notes.txt")  # nobody writes to it, so the upload never gets past it
    process = CONTEXT.Process(target=upload, args=_to(s3, (staging, manifest)))
    process.start()
    store = Store(s3)
    try:  # it imports much before it begins
        eventually(
            lambda: "model.keras" in store.children(_FOLDER) or not process.is_alive(), 300.0
        )
    finally:
        process.kill()
        process.join()
    assert "model.keras" in store.children(_FOLDER)
    assert watcher.versions("digits") == []
    assert "was interrupted" in watcher.incomplete("digits")[1]
    assert not upload(*_to(s3, staged("two")))  # the number stays taken until somebody looks


def _to(root, staged):
    """Return the arguments of an upload of what is staged, with a store of its own."""
    staging, manifest = staged
    return staging, Store(root), manifest
