import fcntl
import multiprocessing
import os
import signal
import threading

import pytest

from serve.errors import RepositoryError
from serve.repository.cache import MARK, Cache

CONTEXT = multiprocessing.get_context("spawn")
NAME = "1-" + 16 * "a"
SIZE = 17  # of what _fill writes


def _fill(folder):
    (folder / "model").write_bytes(b"whole")
    (folder / "sub").mkdir()
    (folder / "sub" / "weights").write_bytes(b"also whole!!")


def _never(folder):
    raise AssertionError("filled again")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    return Cache(folder, 10_000)


def _get(cache, name=NAME, model="digits", fill=_fill):
    return cache.get(model, name, SIZE, fill)


def _names(folder):
    """Return what lies in a model's folder and is no lock."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def _age(copy, seconds):
    os.utime(copy / MARK, (seconds, seconds))


def _name(number):
    return f"{number}-" + 16 * "b"


def test_nothing_is_seen_of_a_copy_before_it_is_whole(cache, folder):
    seen = []

    def fill(staging):
        _fill(staging)
        seen.append((folder / "digits" / NAME).exists())

    target = _get(cache, fill=fill)
    assert target == folder / "digits" / NAME
    assert seen == [False]
    assert (target / "sub" / "weights").read_bytes() == b"also whole!!"
    assert _names(target.parent) == {NAME}


def test_an_intact_copy_is_not_made_again(cache, folder):
    target = _get(cache)
    assert _get(cache, fill=_never) == target
    assert _get(Cache(folder, 10_000), fill=_never) == target


@pytest.mark.parametrize(
    "spoil",
    [
        lambda copy: (copy / "model").write_bytes(b"spoilt"),
        lambda copy: (copy / "model").unlink(),
        lambda copy: (copy / "stray").write_bytes(b"not of the version"),
        lambda copy: (copy / MARK).unlink(),
        lambda copy: (copy / MARK).write_bytes(b"{"),
    ],
)
def test_a_spoilt_copy_is_made_anew_as_a_whole(cache, spoil):
    target = _get(cache)
    spoil(target)
    _get(cache)
    assert {path.name for path in target.iterdir()} == {"model", "sub", MARK}
    assert (target / "model").read_bytes() == b"whole"


def test_a_fill_that_fails_half_way_leaves_nothing_and_may_be_tried_again(cache, folder):
    def fails(staging):
        (staging / "model").write_bytes(b"who")
        raise RepositoryError("the store is away")

    with pytest.raises(RepositoryError, match="the store is away"):
        _get(cache, fill=fails)
    assert _names(folder / "digits") == set()
    assert _get(cache).is_dir()


def test_a_failed_refill_of_a_spoilt_copy_is_an_error_and_not_the_spoilt_copy(cache):
    (_get(cache) / "model").write_bytes(b"spoilt")

    def fails(staging):
        raise RepositoryError("the store is away")

    with pytest.raises(RepositoryError, match="the store is away"):
        _get(cache, fill=fails)


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(RepositoryError, match=r"the cache folder '.*cache/digits' fails: "):
        _get(Cache(tmp_path / "cache", 0))


def test_what_no_process_holds_is_dropped_with_its_locks(cache, folder):
    held, free = _get(cache, _name(1)), _get(cache, _name(2))
    cache.release(free)
    Cache(folder, 10_000).drop("digits")
    assert _names(folder / "digits") == {held.name}
    cache.release(held)
    cache.drop("digits")
    assert list((folder / "digits").iterdir()) == []


def test_a_copy_is_held_until_it_was_released_as_often_as_it_was_asked_for(cache, folder):
    target = _get(cache)
    _get(cache)
    cache.release(target)
    cache.drop("digits")
    assert target.is_dir()
    cache.release(target)
    cache.drop("digits")
    assert not target.exists()
    cache.release(target)  # once too often does nothing


def test_the_longest_unused_copies_make_room_and_those_in_use_do_not(folder):
    cache = Cache(folder, 3 * SIZE)
    held, old, new = (_get(cache, _name(number)) for number in (1, 2, 3))
    cache.release(old)
    cache.release(new)
    now = (held / MARK).stat().st_mtime
    _age(held, now - 300), _age(old, now - 200), _age(new, now - 100)
    _get(cache, _name(4), model="letters")
    assert _names(folder / "digits") == {held.name, new.name}


def test_asking_for_a_copy_makes_it_recently_used(folder):
    cache = Cache(folder, 2 * SIZE)
    first, second = _get(cache, _name(1)), _get(cache, _name(2))
    for copy in (first, second):
        cache.release(copy)
        _age(copy, (copy / MARK).stat().st_mtime - 100)
    cache.release(_get(cache, _name(1)))
    _get(cache, _name(3))
    assert _names(folder / "digits") == {first.name, _name(3)}


def test_copies_that_nobody_used_for_long_go_although_there_is_room(cache, folder):
    old = _get(cache, _name(1))
    cache.release(old)
    _age(old, (old / MARK).stat().st_mtime - 8 * 24 * 3600)
    _get(cache, _name(2))
    assert _names(folder / "digits") == {_name(2)}


def test_what_others_keep_in_the_folder_stays(folder):
    cache = Cache(folder, 0)
    others = [folder / "prometheus" / "bin", folder / "digits" / "notes", folder / ".publishing-x"]
    for other in others:
        (other / "variables").mkdir(parents=True)
        (other / "file").write_bytes(b"mine")
    cache.release(_get(cache))
    cache.release(_get(cache, _name(2)))
    cache.drop("digits")
    assert all((other / "file").is_file() for other in others)


def test_threads_that_want_one_version_make_one_copy(cache):
    fills, found = [], []
    filling = threading.Semaphore(0)

    def fill(staging):
        fills.append(staging)
        filling.release()
        _fill(staging)
        filling.acquire()
        filling.acquire(timeout=0.3)  # time for a second one to begin, if nothing held it up

    threads = [
        threading.Thread(target=lambda: found.append(_get(cache, fill=fill))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(fills) == 1


def _want(folder, name, pipe):
    """Want a copy in a process of its own: say so, say when it is filled, wait to be let on."""

    def fill(staging):
        (staging / "model").write_bytes(b"who")
        pipe.send("filling")
        pipe.recv()
        (staging / "model").write_bytes(b"whole")

    pipe.send("wanting")
    Cache(folder, 10_000).get("digits", name, SIZE, fill)
    pipe.send("done")
    pipe.recv()


def _start(folder, name=NAME):
    pipe, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_want, args=(folder, name, theirs))
    process.start()
    theirs.close()
    assert pipe.recv() == "wanting"
    return process, pipe


def test_a_process_waits_for_the_copy_that_another_one_makes_and_for_no_other(folder):
    first, filling = _start(folder)
    assert filling.recv() == "filling"
    second, waiting = _start(folder)
    other, elsewhere = _start(folder, _name(2))
    assert elsewhere.recv() == "filling"
    assert not waiting.poll(0.3)  # it would say so if it were filling too
    filling.send("go on"), elsewhere.send("go on")
    assert [pipe.recv() for pipe in (filling, waiting, elsewhere)] == 3 * ["done"]
    for process, pipe in ((first, filling), (second, waiting), (other, elsewhere)):
        pipe.send("end")
        process.join()
    assert (folder / "digits" / NAME / "model").read_bytes() == b"whole"


def test_what_another_process_makes_or_uses_is_not_dropped_until_it_ends(cache, folder):
    process, pipe = _start(folder)
    assert pipe.recv() == "filling"
    cache.drop("digits")
    pipe.send("go on")
    assert pipe.recv() == "done"
    cache.drop("digits")
    assert (folder / "digits" / NAME / "model").read_bytes() == b"whole"
    pipe.send("end")
    process.join()
    cache.drop("digits")
    assert not (folder / "digits" / NAME).exists()


@pytest.mark.parametrize("next_one", ["the same", "another", "drop"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(cache, folder, next_one):
    process, pipe = _start(folder)
    assert pipe.recv() == "filling"
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    left = _names(folder / "digits")
    assert len(left) == 1
    assert next(iter(left)).startswith(".")
    if next_one == "drop":
        cache.drop("digits")
        assert _names(folder / "digits") == set()
    else:
        target = _get(cache, NAME if next_one == "the same" else _name(2))
        assert (target / "model").read_bytes() == b"whole"
        assert _names(folder / "digits") == {target.name}


def test_a_copy_that_is_removed_while_another_waits_for_it_is_made_anew(cache, folder):
    """The waiting one must not take the lock of a file that is not there any more."""
    target = _get(cache)
    cache.release(target)
    lock = folder / "digits" / f".{NAME}.lock"
    with lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process, pipe = _start(folder)
        assert not pipe.poll(0.3)
        for path in (target / "model", target / MARK, lock):
            path.unlink()
    assert pipe.recv() == "filling"
    cache.drop("digits")  # finds the lock of the one that fills
    pipe.send("go on")
    assert pipe.recv() == "done"
    pipe.send("end")
    process.join()
