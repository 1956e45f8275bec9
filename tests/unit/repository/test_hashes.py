import hashlib
import os
import time

import pytest

from serve.repository import hashes
from serve.repository.progress import heard_by


@pytest.fixture
def file(tmp_path):
    """A file of 9 MB that nobody has written to for a while, as its change times tell."""
    file = tmp_path / "shard"
    file.write_bytes(os.urandom(9_000_000))
    return file


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(hashes, "_SETTLED_S", -1.0)
    monkeypatch.setattr(hashes, "_known", {})


def _true(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _reads(file):
    """Return what hashing a file gives, and whether it was read for that."""
    told = []
    with heard_by(lambda *each: told.append(each)):
        return hashes.sha256(file), bool(told)


def test_a_file_is_read_once_as_long_as_it_is_the_same(file):
    assert _reads(file) == (_true(file), True)
    assert _reads(file) == (_true(file), False)


def test_progress_is_told_in_parts_up_to_the_whole(file):
    told = []
    with heard_by(lambda *each: told.append(each)):
        hashes.sha256(file)
    assert told[-1] == ("verifying", 9_000_000, 9_000_000)
    assert len(told) == 3


def test_other_bytes_of_the_same_length_and_time_are_read_again(file):
    before = file.stat()
    hashes.sha256(file)
    with file.open("r+b") as content:
        content.write(b"other")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _reads(file) == (_true(file), True)


def test_another_file_put_in_its_place_is_read_again(file, tmp_path):
    hashes.sha256(file)
    other = tmp_path / "other"
    other.write_bytes(os.urandom(9_000_000))
    other.rename(file)
    assert _reads(file) == (_true(file), True)


def test_a_file_that_was_written_just_now_is_not_trusted_to_stay(file, monkeypatch):
    monkeypatch.setattr(hashes, "_SETTLED_S", 3600.0)
    assert [_reads(file)[1] for _ in range(2)] == [True, True]


def test_a_file_that_grows_while_it_is_read_is_not_remembered(file):
    def grow(phase, done, total):
        if done < 9_000_000:
            with file.open("ab") as content:
                content.write(b"more")

    with heard_by(grow):
        hashes.sha256(file)
    assert _reads(file) == (_true(file), True)


def test_no_more_than_a_bound_are_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "_MOST_KNOWN", 3)
    for index in range(5):
        hashes.remember((0, index, 0, 0, 0), "hash", time.time())
    assert list(hashes._known) == [(0, index, 0, 0, 0) for index in (2, 3, 4)]
