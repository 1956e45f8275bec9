"""Folders on a disk: links are followed wherever they lead, and what cannot be read is said.

A link is how model cars, atomic swaps and mounted ConfigMaps are made, so it counts as what it
points to, and its swap is seen like the swap of a file. Called by store.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from serve.repository.layout import Entry, Listing, is_hidden, is_inside


def children(folder: Path) -> dict[str, Entry]:
    """Return what a folder holds by name. Raises OSError if it cannot be read."""
    with os.scandir(folder) as found:
        return {entry.name: _entry(entry) for entry in found if is_inside(entry.name)}


def walk(folder: Path) -> Listing:
    """List all files and folders below a folder, hidden ones left out. Raises no OSError."""
    found = _Found({}, set(), {}, {})
    _enter(folder, "", frozenset(), found)
    place = os.path.realpath(folder)
    if place != str(folder):  # the swap of a link in its path is another content, too
        found.stamps = {path: f"{stamp} {place}" for path, stamp in found.stamps.items()}
    return Listing(found.files, frozenset(found.folders), found.stamps, found.problems)


def unreadable(file: Path) -> str | None:
    """Say why a file cannot be opened for reading, None if it can."""
    try:
        with file.open("rb"):
            return None
    except OSError as err:
        return why(err)


def why(err: OSError) -> str:
    """Return what an error says, without the path that it happened at."""
    return (err.strerror or str(err) or type(err).__name__).lower()


@dataclass(slots=True)
class _Found:
    files: dict[str, int | None]
    folders: set[str]
    stamps: dict[str, str]
    problems: dict[str, str]


def _enter(place: Path, below: str, around: frozenset[tuple[int, int]], found: _Found) -> None:
    """Add what is in a folder; `around` are those that it is in, by device and inode."""
    try:
        here = _identity(place)
        if here in around:
            raise OSError(errno.ELOOP, "it is a link to a folder that it is in")
        entries = children(place)
    except OSError as err:
        found.problems[below] = why(err)
        return
    for name, entry in sorted(entries.items()):
        path = f"{below}/{name}" if below else name
        if is_hidden(name):
            continue
        if entry.problem is not None:
            found.problems[path] = entry.problem
        elif entry.is_folder:
            found.folders.add(path)
            _enter(place / name, path, around | {here}, found)
        else:
            found.files[path], found.stamps[path] = entry.bytes, entry.stamp


def _entry(entry: os.DirEntry[str]) -> Entry:
    try:
        status = os.stat(entry.path)
        # By its target, too: the files behind two links may look the same.
        target = os.path.realpath(entry.path) if entry.is_symlink() else ""
    except OSError as err:
        return Entry(False, None, "", _why_not(entry, err))
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        return Entry(False, None, "", "it is neither a file nor a folder")
    # Not the time its attributes changed: mounting a volume anew may give all files to an owner.
    stamp = f"{status.st_mtime_ns} {status.st_ino} {target}".rstrip()
    return Entry(stat.S_ISDIR(status.st_mode), status.st_size, stamp)


def _why_not(entry: os.DirEntry[str], err: OSError) -> str:
    if isinstance(err, FileNotFoundError) and entry.is_symlink():
        return f"it is a link to '{os.readlink(entry.path)}', which is not there"
    return why(err)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
