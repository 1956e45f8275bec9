"""Copies of remote versions on the local disk, shared by the replicas of a node.

A copy appears whole or not at all: it is made in a hidden folder and renamed. A file lock lets
one replica copy while the others wait for the result. Called by repository.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serve.errors import RepositoryError
from serve.repository.store import reason


def cached(target: Path, fill: Callable[[Path], None], check: Callable[[Path], None]) -> Path:
    """Return the folder `target`, calling `fill` to make it unless an intact copy is there.

    `fill` writes the copy into the folder that it is given. `check` raises RepositoryError for a
    copy that is not intact: an old one is made anew; a new one is not kept, and the error goes on
    to the caller.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f".{target.name}.lock")):
            if not _is_intact(target, check):
                _fill(target, fill, check)
    except OSError as err:
        raise RepositoryError(f"the cache folder '{target.parent}' fails: {reason(err)}") from err
    return target


def _is_intact(target: Path, check: Callable[[Path], None]) -> bool:
    if not target.is_dir():
        return False
    try:
        check(target)
    except RepositoryError:
        return False
    return True


def _fill(target: Path, fill: Callable[[Path], None], check: Callable[[Path], None]) -> None:
    staging = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    staging.mkdir()
    try:
        fill(staging)
        check(staging)
        shutil.rmtree(target, ignore_errors=True)  # a spoilt copy
        os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file, so a killed replica leaves none
        yield
