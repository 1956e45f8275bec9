"""Folders on a disk: links are followed as far as they may lead, and what cannot be read is said.

A link is how model cars, atomic swaps and mounted ConfigMaps are made, so it counts as what it
points to, and its swap is seen like the swap of a file. Given a `root`, one that leads out of it is
a problem: who may write to a repository is not to choose what else of a machine is read. Called by
store.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from serve.errors import RepositoryError
from serve.repository.layout import Entry, Listing, is_hidden, is_inside

# To look at and go through, not to list: such a folder need not be readable.
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_MOST_LINKS = 40  # one after another, as for the kernel


def children(folder: Path, root: Path | None = None) -> dict[str, Entry]:
    """Return what a folder holds by name. Raises OSError if it cannot be read.

    Raises RepositoryError if the folder itself is outside of `root`.
    """
    outside = leads_out(folder, root)
    if outside is not None:
        raise RepositoryError(outside)
    return _children(folder, root)


def walk(folder: Path, root: Path | None = None) -> Listing:
    """List all files and folders below a folder, hidden ones left out. Raises no OSError."""
    found = _Found({}, set(), {}, {}, root)
    try:
        outside = leads_out(folder, root)
    except OSError as err:
        outside = why(err)
    if outside is not None:
        return Listing({}, frozenset(), problems={"": outside})
    _enter(folder, "", frozenset(), found)
    place = os.path.realpath(folder)
    if place != str(folder):  # the swap of a link in its path is another content, too
        found.stamps = {path: f"{stamp} {place}" for path, stamp in found.stamps.items()}
    return Listing(found.files, frozenset(found.folders), found.stamps, found.problems)


def leads_out(path: Path, root: Path | None) -> str | None:
    """Say that a file or folder is outside of `root`, None if it is inside or there is no root.

    The kernel is asked, folder by folder up from what the path leads to: a model car's root leads
    into another process's, where paths are not what they seem. Raises OSError.
    """
    if root is None:
        return None
    top = _identity(root)
    here = os.open(path, _FOLDER) if path.is_dir() else _folder_of_target(path)
    before = None
    try:
        while (found := _identity_of(here)) not in (top, before):
            here, before = _step("..", here), found
    finally:
        os.close(here)
    if found == top:
        return None
    return (
        f"'{path}' is a link to '{os.path.realpath(path)}', which is outside of the repository "
        f"'{root}'; move that into it, or set repository.allow_outside_links: true"
    )


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
    root: Path | None


def _children(folder: Path, root: Path | None) -> dict[str, Entry]:
    with os.scandir(folder) as found:
        return {entry.name: _entry(entry, root) for entry in found if is_inside(entry.name)}


def _enter(place: Path, below: str, around: frozenset[tuple[int, int]], found: _Found) -> None:
    """Add what is in a folder; `around` are those that it is in, by device and inode."""
    try:
        here = _identity(place)
        if here in around:
            raise OSError(errno.ELOOP, "it is a link to a folder that it is in")
        entries = _children(place, found.root)
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


def _entry(entry: os.DirEntry[str], root: Path | None) -> Entry:
    try:
        status = os.stat(entry.path)
        outside = leads_out(Path(entry.path), root) if entry.is_symlink() else None
        # By its target, too: the files behind two links may look the same.
        target = os.path.realpath(entry.path) if entry.is_symlink() else ""
    except OSError as err:
        return Entry(False, None, "", _why_not(entry, err))
    if outside is not None:
        return Entry(False, None, "", outside)
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        return Entry(False, None, "", "it is neither a file nor a folder")
    # Not the time its attributes changed: mounting a volume anew may give all files to an owner.
    stamp = f"{status.st_mtime_ns} {status.st_ino} {target}".rstrip()
    return Entry(stat.S_ISDIR(status.st_mode), status.st_size, stamp)


def _why_not(entry: os.DirEntry[str], err: OSError) -> str:
    if isinstance(err, FileNotFoundError) and entry.is_symlink():
        return f"it is a link to '{os.readlink(entry.path)}', which is not there"
    return why(err)


def _folder_of_target(link: Path) -> int:
    """Return the folder, opened, of the file that a link leads to in the end."""
    here, name = os.open(link.parent, _FOLDER), link.name
    try:
        for _ in range(_MOST_LINKS):
            try:
                text = os.readlink(name, dir_fd=here)
            except OSError as err:
                if err.errno == errno.EINVAL:  # no link any more
                    return here
                raise
            here, name = _step(os.path.dirname(text) or ".", here), os.path.basename(text)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(link))
    except BaseException:
        os.close(here)
        raise


def _step(path: str, folder: int) -> int:
    """Open a folder relative to another one, and close that."""
    there = os.open(path, _FOLDER, dir_fd=folder)
    os.close(folder)
    return there


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _identity_of(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino
