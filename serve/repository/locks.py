"""Locks between processes: an flock on a file, free again when its process ends, however it ends.

Used by cache and publish.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[bool]:
    """Hold a lock and yield True; yield False if it is held elsewhere and this does not wait."""
    while True:
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            if not _is_the_file_at(path, file):
                continue  # removed with its copy while this one waited
            yield True  # ends with the file, so a killed process leaves no lock
            return


def _is_the_file_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
