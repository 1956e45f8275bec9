"""The SHA-256 of files, each read once by a process for as long as it stays what it was.

Called by manifest, and by engines, which read the large ones anyway: what they read is what is
compared with the manifest then.
"""

import hashlib
import os
import threading
import time
from pathlib import Path

from serve.repository.progress import tell

_CHUNK_BYTES = 4 * 2**20
_MOST_KNOWN = 10_000
# A file that was written to so shortly before it was read may be again within the same time stamp.
_SETTLED_S = 2.0

# Device, inode, bytes, and when its content and anything about it changed, in ns.
Stamp = tuple[int, int, int, int, int]

_known: dict[Stamp, str] = {}
_lock = threading.Lock()


def sha256(file: Path) -> str:
    """Return the hash of a file in hexadecimal; progress is told. Raises OSError."""
    with file.open("rb", buffering=0) as content:
        stamp = stamp_of(content.fileno())
        known = _known.get(stamp)
        if known is not None:
            return known
        began, size, done = time.time(), stamp[2], 0
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while count := content.readinto(buffer):
            digest.update(buffer[:count])
            done += count
            tell("verifying", done, max(done, size))
        found = digest.hexdigest()
        if stamp_of(content.fileno()) == stamp:
            remember(stamp, found, began)
    return found


def stamp_of(descriptor: int) -> Stamp:
    """Return what changes with the content of an open file."""
    return _stamp(os.fstat(descriptor))


def stamp_at(file: Path) -> Stamp:
    """Return what changes with the content of the file at a path. Raises OSError."""
    return _stamp(os.stat(file))


def _stamp(status: os.stat_result) -> Stamp:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def remember(stamp: Stamp, found: str, began: float) -> None:
    """Keep the hash of a file that was read from `began` (time.time) on, and did not change."""
    if max(stamp[3:]) / 1e9 > began - _SETTLED_S:
        return
    with _lock:
        while len(_known) >= _MOST_KNOWN:
            del _known[next(iter(_known))]
        _known[stamp] = found
