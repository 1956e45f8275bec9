"""Copies of remote versions on the local disk, shared by the processes of a machine.

A copy appears whole or not at all: it is made in a hidden folder, verified there once, and renamed.
Beside each copy lie two files that are only locked. Who makes or removes the copy holds the first;
who uses it shares the second until it lets go or ends, however it ends. So one process copies while
others wait for that copy alone, what a killed one left is known by its free lock, and nothing in
use is removed. Called by repository.
"""

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serve.errors import RepositoryError
from serve.repository.locks import locked
from serve.repository.store import reason

# What this module makes below a model, and all that it ever removes: the folder may hold more.
_COPY = re.compile("[0-9]{1,19}-[0-9a-f]{16}")
_LEFT = re.compile(r"\.([0-9]{1,19}-[0-9a-f]{16})\.(part|[0-9a-f]{32})")
MARK = ".complete"  # in a copy: the size and time of each file, as they were when it was verified

_KEEP_S = 7 * 24 * 3600  # a copy that nobody used for so long is removed, whatever room there is


@dataclass(frozen=True, slots=True)
class _Copy:
    path: Path
    bytes: int
    used: float  # when it was last wanted, in seconds of the clock


class Cache:
    """Copies in `folder`/<model>/<name>, which together are to take `max_bytes` at most.

    Those in use are kept even if they take more. Every method raises RepositoryError.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._held: dict[Path, list[int]] = {}  # the open files that share its lock

    def get(self, model: str, name: str, size: int, fill: Callable[[Path], None]) -> Path:
        """Return the copy `name` of a model, which is held until `release`.

        Where there is none that is intact, `fill` writes it into the folder that it is given, or
        raises; then nothing is kept. `size` are the bytes that it will take.
        """
        target = self._folder / model / name
        with self._explained(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(_making(target)):
                if not _is_intact(target):
                    self._make_room(size)
                    _fill(target, fill)
                os.utime(target / MARK)
                self._hold(target)
        return target

    def release(self, target: Path) -> None:
        """Let go of a copy, once for each `get`; a path that is no copy's is ignored."""
        held = self._held.get(target)
        if held:
            os.close(held.pop())

    def spoil(self, target: Path) -> None:
        """Have the next `get` make a copy anew that is not what was verified."""
        with self._explained(target.parent):
            (target / MARK).unlink(missing_ok=True)

    def drop(self, model: str) -> None:
        """Remove the copies of a model that no process holds, and what killed ones left."""
        with self._explained(self._folder / model):
            for copy in _copies(self._folder / model):
                _remove(copy.path)

    def _hold(self, target: Path) -> None:
        file = os.open(_using(target), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        fcntl.flock(file, fcntl.LOCK_SH)  # at once: who holds it alone holds the first lock as well
        self._held.setdefault(target, []).append(file)

    def _make_room(self, size: int) -> None:
        """Remove copies that are not used, the longest unused first, until there is room."""
        models = [path for path in self._folder.iterdir() if path.is_dir()]
        copies = sorted((c for model in models for c in _copies(model)), key=lambda c: c.used)
        taken = size + sum(copy.bytes for copy in copies)
        for copy in copies:
            is_old = copy.used < time.time() - _KEEP_S
            if (is_old or taken > self._max_bytes) and _remove(copy.path):
                taken -= copy.bytes

    @contextmanager
    def _explained(self, folder: Path) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise RepositoryError(f"the cache folder '{folder}' fails: {reason(err)}") from err


def _is_intact(copy: Path) -> bool:
    """Tell whether a copy is as it was when it was verified, as far as sizes and times tell."""
    try:
        return bool(json.loads((copy / MARK).read_text()) == _stamps(copy))
    except (OSError, ValueError):
        return False


def _stamps(copy: Path) -> dict[str, list[int]]:
    files = (path for path in copy.rglob("*") if path.is_file() and path.name != MARK)
    stats = {str(path.relative_to(copy)): path.stat() for path in files}
    return {path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}


def _fill(target: Path, fill: Callable[[Path], None]) -> None:
    staging = _staging(target)
    shutil.rmtree(staging, ignore_errors=True)  # whoever left it is dead: this one has its lock
    staging.mkdir()
    try:
        fill(staging)
        (staging / MARK).write_text(json.dumps(_stamps(staging)))
        shutil.rmtree(target, ignore_errors=True)  # a spoilt copy
        os.rename(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copies(folder: Path) -> list[_Copy]:
    """Return the copies of a model; what is left of killed processes is removed on the way."""
    found = []
    for path in [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else ():
        left = _LEFT.fullmatch(path.name)
        if left:
            with locked(_making(path.with_name(left[1])), waits=False) as is_mine:
                if is_mine:
                    shutil.rmtree(path, ignore_errors=True)
        elif _COPY.fullmatch(path.name):
            found.append(_copy(path))
    return found


def _copy(path: Path) -> _Copy:
    try:
        stamps = json.loads((path / MARK).read_text())
        used = (path / MARK).stat().st_mtime
        return _Copy(path, sum(size for size, _ in stamps.values()), used)
    except (OSError, ValueError):  # without its mark it is of no use: the oldest of all
        return _Copy(path, 0, 0.0)


def _remove(target: Path) -> bool:
    """Remove a copy unless somebody makes or uses it; tell whether it was removed."""
    with locked(_making(target), waits=False) as is_mine:
        if not is_mine:
            return False
        with _using(target).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            shutil.rmtree(target, ignore_errors=True)
            _using(target).unlink(missing_ok=True)
            _making(target).unlink(missing_ok=True)
    return not target.exists()


def _staging(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _making(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _using(target: Path) -> Path:
    return target.with_name(f".{target.name}.used.lock")
