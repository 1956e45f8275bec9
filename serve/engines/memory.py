"""Memory of versions that went, given back so that the next ones use it.

Called by engines that are closed. What TensorFlow makes of a SavedModel refers to itself in
circles, which Python's collector frees late, and never once Ray Serve has frozen what a replica
held after its start (gc.freeze). TensorFlow keeps the most that it ever needed and uses it again;
so uncollected versions each add their size to a replica for good.
"""

import ctypes
import gc
import os
import sys
import threading
from pathlib import Path

_STATM = Path("/proc/self/statm")
_one_at_a_time = threading.Lock()


def release_soon() -> threading.Thread:
    """Collect what is held by circles alone, in a thread; the caller need not wait for it."""
    thread = threading.Thread(target=release, name="release-memory", daemon=True)
    thread.start()
    return thread


def release() -> None:
    """Collect, frozen objects too, and give back to the system what the C library has left."""
    with _one_at_a_time:
        was_frozen = gc.get_freeze_count() > 0
        gc.unfreeze()
        gc.collect()
        if was_frozen:
            gc.freeze()
        if sys.platform == "linux":
            _trim()


def resident_bytes() -> int:
    """Return the memory that this process has now, 0 where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _trim() -> None:
    # Only glibc has it; musl gives memory back by itself.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
