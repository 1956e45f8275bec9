import errno
import uuid
from pathlib import Path

import pytest

from serve.errors import RepositoryError
from serve.repository.store import Store


@pytest.fixture
def store():
    return Store(f"memory://{uuid.uuid4().hex}")


def test_only_the_first_of_two_makes_a_file(store):
    assert store.create("a/marker")
    assert not store.create("a/marker")


def _pipe_file(outcome):
    def pipe_file(path, value, mode):
        assert mode == "create"
        raise outcome

    return pipe_file


def test_a_condition_that_a_store_refuses_in_its_own_way_is_a_loss(store, monkeypatch):
    store.create("marker")
    refused = _pipe_file(OSError("PreconditionFailed"))
    monkeypatch.setattr(store._fs, "pipe_file", refused)
    assert not store.create("marker")


def test_a_write_that_failed_is_no_loss_but_an_error(store, monkeypatch):
    failed = _pipe_file(OSError("the network is away"))
    monkeypatch.setattr(store._fs, "pipe_file", failed)
    with pytest.raises(RepositoryError, match="the network is away"):
        store.create("marker")


def test_names_that_leave_the_folder_and_circles_of_links_are_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"x")
    (tmp_path / "a/circle").symlink_to(tmp_path / "a")
    files = Store(str(tmp_path)).walk("a").files
    assert files["file"] == 1
    assert len(files) < 20


def test_a_file_that_comes_shorter_than_it_is_listed_is_an_error(store, tmp_path, monkeypatch):
    store._fs.pipe_file(store._full("a/file"), b"whole")

    def cut(path, target, callback):
        Path(target).write_bytes(b"who")

    monkeypatch.setattr(store._fs, "get_file", cut)
    with pytest.raises(RepositoryError, match=r"3 of 5 bytes of 'memory://.*/a/file' came"):
        store.download("a/file", tmp_path / "file", 5)


def test_a_disk_that_is_full_is_no_error_of_the_store(store, tmp_path, monkeypatch):
    def full(path, target, callback):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store._fs, "get_file", full)
    with pytest.raises(OSError, match="No space left"):
        store.download("a/file", tmp_path / "file")


def test_a_file_that_was_made_while_nobody_could_be_told_is_taken_away(store, monkeypatch):
    def away(path):
        raise ConnectionError("the network is away")

    with monkeypatch.context() as patch:
        patch.setattr(store._fs, "cat_file", away)
        with pytest.raises(RepositoryError, match="the network is away"):
            store.create("marker")
    assert store.create("marker")
