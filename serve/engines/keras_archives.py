"""Keras files that reach out of themselves, or are far larger than they look: refused unopened.

Called by keras_model, before Keras sees a file. A `.keras` file is a zip archive, parts of which
Keras unpacks into a folder. Weights are HDF5, which can name other files of the machine as a part
of itself (external links and storage, virtual datasets); Keras looks at some of that only.
"""

import io
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from serve.errors import RepositoryError
from serve.repository.layout import is_inside

# What an archive or a file of weights may grow to; numbers that a training made hardly shrink.
_MOST_TIMES = 100
_LEAST_BYTES = 256 * 2**20
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip entry: the lengths of its name and extra field


def require_contained(path: Path) -> None:
    """Check that all of a `.keras` or `.h5` file is in it, and of a size that its own explains.

    Raises RepositoryError. One that is no archive or HDF5 file at all passes: it cannot be opened.
    """
    try:
        problem = _in_archive(path) if path.suffix == ".keras" else _in_weights(path)
    except _Unopened:
        return
    except Exception as err:  # whatever h5py and zipfile raise for what somebody made by hand
        problem = f"it cannot be read to its end: {type(err).__name__}: {err}"
    if problem:
        raise RepositoryError(
            f"{path}: {problem}; it was made by no version of Keras, so nothing of it was loaded"
        )


class _Unopened(Exception):
    """A file is not of its format at all."""


def _in_weights(path: Path) -> str | None:
    try:
        file = h5py.File(path, "r")
    except OSError as err:
        raise _Unopened from err
    with file:
        return _leads_out(file, _limit(path))


def _in_archive(path: Path) -> str | None:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as err:
        raise _Unopened from err
    with archive, path.open("rb") as file:
        entries = archive.infolist()
        problem = next(filter(None, map(_wrong, entries)), None) or _twice(entries)
        if problem:
            return problem
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > _limit(path):
            return f"it unpacks to {unpacked} bytes, {unpacked // _size(path)} times its size"
        for entry in entries:
            if entry.filename.endswith(".h5"):
                problem = _in_entry(archive, file, entry, _limit(path))
                if problem:
                    return f"{entry.filename}: {problem}"
    return None


def _in_entry(
    archive: zipfile.ZipFile, file: BinaryIO, entry: zipfile.ZipInfo, limit: int
) -> str | None:
    try:
        with _opened(archive, file, entry) as content, h5py.File(content, "r") as weights:
            return _leads_out(weights, limit)
    except OSError as err:  # Keras may not want it: unlike a whole file, it may be anything
        return f"it cannot be read: {err}"


def _wrong(entry: zipfile.ZipInfo) -> str | None:
    """Say why an entry is none that Keras writes, None if it may be one."""
    name, mode = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    if not is_inside(name.removesuffix("/")) or entry.orig_filename != name or ":" in name:
        return f"its entry {entry.orig_filename!r} would be unpacked outside of its folder"
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"its entry '{name}' is neither a file nor a folder"
    return None


def _twice(entries: list[zipfile.ZipInfo]) -> str | None:
    """Say which entry is there twice: readers take one or the other."""
    seen: set[str] = set()
    for entry in entries:
        if entry.filename in seen:
            return f"its entry '{entry.filename}' is there twice"
        seen.add(entry.filename)
    return None


def _size(path: Path) -> int:
    return max(path.stat().st_size, 1)


def _limit(path: Path) -> int:
    return max(_MOST_TIMES * _size(path), _LEAST_BYTES)


@contextmanager
def _opened(archive: zipfile.ZipFile, file: BinaryIO, entry: zipfile.ZipInfo) -> Iterator[BinaryIO]:
    """Open an entry for reading at any place; one that is not packed is not copied for that."""
    if entry.compress_type != zipfile.ZIP_STORED:
        yield io.BytesIO(archive.read(entry))
        return
    file.seek(entry.header_offset)
    lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = entry.header_offset + _LOCAL_HEADER.size + sum(lengths)
    yield io.BufferedReader(_Window(file, start, entry.file_size))


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), max(self._size - self._position, 0))
        self._file.seek(self._start + self._position)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _leads_out(root: h5py.Group, limit: int) -> str | None:
    """Say which part of an HDF5 file is in another one, or too large to be in it; None if none."""
    total = 0
    for place, found in _parts(root):
        if isinstance(found, h5py.ExternalLink):
            return f"'{place}' is a link into another file, '{found.filename}'"
        if found.external or found.is_virtual:
            return f"the numbers of '{place}' are in another file"
        total += found.nbytes
    return f"its arrays are of {total} bytes, far more than it has" if total > limit else None


def _parts(root: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of an HDF5 file and its links into others, which are not followed."""
    waiting, seen = [root], set[int]()
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            place = f"{group.name}/{name}".replace("//", "/")
            if isinstance(link, h5py.ExternalLink):
                yield place, link
            elif isinstance(link, h5py.HardLink):  # else to a name in this file, which is seen
                found = group[name]
                address = h5py.h5o.get_info(found.id).addr
                if address not in seen:
                    seen.add(address)
                    waiting += [found] if isinstance(found, h5py.Group) else []
                    yield from [(place, found)] if isinstance(found, h5py.Dataset) else []
