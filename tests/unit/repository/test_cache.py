import multiprocessing
import os
import signal
import threading

import pytest

from serve.errors import RepositoryError
from serve.repository.cache import cached

CONTEXT = multiprocessing.get_context("spawn")


def _fill(folder):
    (folder / "model").write_bytes(b"whole")
    (folder / "sub").mkdir()
    (folder / "sub" / "weights").write_bytes(b"also whole")


def _check(folder):
    if (folder / "model").read_bytes() != b"whole":
        raise RepositoryError("the model is spoilt")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "digits" / "1-abc"


def _others(target):
    """Return the names beside the copy that a lock does not explain."""
    return {path.name for path in target.parent.iterdir()} - {target.name, f".{target.name}.lock"}


def test_nothing_is_seen_of_a_copy_before_it_is_whole_and_checked(target):
    seen = []

    def fill(folder):
        _fill(folder)
        seen.append(target.exists())

    def check(folder):
        seen.append(target.exists())
        _check(folder)

    assert cached(target, fill, check) == target
    assert seen == [False, False]
    assert (target / "sub" / "weights").read_bytes() == b"also whole"
    assert _others(target) == set()


def test_a_right_copy_is_not_made_again(target):
    cached(target, _fill, _check)

    def never(folder):
        raise AssertionError("filled again")

    assert cached(target, never, _check) == target


def test_a_spoilt_copy_is_made_anew_as_a_whole(target):
    cached(target, _fill, _check)
    (target / "model").write_bytes(b"spoilt")
    (target / "stray").write_bytes(b"of the old copy")
    cached(target, _fill, _check)
    assert {path.name for path in target.iterdir()} == {"model", "sub"}
    assert (target / "model").read_bytes() == b"whole"


def test_a_fill_that_fails_half_way_leaves_nothing_and_may_be_tried_again(target):
    def fails(folder):
        (folder / "model").write_bytes(b"who")
        raise RepositoryError("the store is away")

    with pytest.raises(RepositoryError, match="the store is away"):
        cached(target, fails, _check)
    assert not target.exists()
    assert _others(target) == set()
    assert cached(target, _fill, _check) == target


def test_a_new_copy_that_is_not_right_is_an_error_and_not_kept(target):
    def spoilt(folder):
        (folder / "model").write_bytes(b"spoilt")

    with pytest.raises(RepositoryError, match="the model is spoilt"):
        cached(target, spoilt, _check)
    assert not target.exists()
    assert _others(target) == set()


def test_a_failed_refill_of_a_spoilt_copy_is_an_error_and_not_the_spoilt_copy(target):
    cached(target, _fill, _check)
    (target / "model").write_bytes(b"spoilt")

    def fails(folder):
        raise RepositoryError("the store is away")

    with pytest.raises(RepositoryError, match="the store is away"):
        cached(target, fails, _check)


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(RepositoryError, match=r"the cache folder '.*cache/digits' fails: "):
        cached(tmp_path / "cache" / "digits" / "1", _fill, _check)


def test_threads_that_want_one_version_make_one_copy(target):
    fills, found = [], []
    filling = threading.Semaphore(0)

    def fill(folder):
        fills.append(folder)
        filling.release()
        _fill(folder)
        filling.acquire()
        filling.acquire(timeout=0.3)  # time for a second one to begin, if nothing held it up

    def want():
        found.append(cached(target, fill, _check))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [target] * 8
    assert len(fills) == 1


def _want(target, pipe):
    """Want a copy in a process of its own: say so, say when it is filled, wait to be let on."""

    def fill(folder):
        (folder / "model").write_bytes(b"who")
        pipe.send("filling")
        pipe.recv()
        (folder / "model").write_bytes(b"whole")

    pipe.send("wanting")
    cached(target, fill, _check)
    pipe.send("done")


def _start(target):
    pipe, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_want, args=(target, theirs))
    process.start()
    theirs.close()
    assert pipe.recv() == "wanting"
    return process, pipe


def test_a_process_waits_for_the_copy_that_another_one_makes(target):
    first, filling = _start(target)
    assert filling.recv() == "filling"
    second, waiting = _start(target)
    assert not waiting.poll(0.3)  # it would say so if it were filling too
    filling.send("go on")
    assert filling.recv() == "done"
    assert waiting.recv() == "done"
    first.join()
    second.join()
    assert (target / "model").read_bytes() == b"whole"


def test_a_killed_filler_leaves_no_lock_and_nothing_that_is_taken_for_a_copy(target):
    process, pipe = _start(target)
    assert pipe.recv() == "filling"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not target.exists()
    assert all(name.startswith(".") for name in _others(target))
    assert cached(target, _fill, _check) == target
    assert (target / "model").read_bytes() == b"whole"
