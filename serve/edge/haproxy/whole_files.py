"""Files that whoever reads them finds as they were or as they are to be, and never in between."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file, in place of one that may be there, whose owner and permissions it keeps."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # or a loss of power could leave an empty one
        if path.exists():
            before, made = path.stat(), os.stat(name)
            if (before.st_uid, before.st_gid) != (made.st_uid, made.st_gid):
                os.chown(name, before.st_uid, before.st_gid)  # who reads it may be somebody else
            os.chmod(name, before.st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
