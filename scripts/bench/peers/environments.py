"""A virtual environment for each peer, made of the versions that its lock file pins.

Kept in ~/.cache/strata/bench, under the hash of the lock file: a changed one makes a new folder.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from serve.errors import ServeError

_LOCKS = Path(__file__).with_name("requirements")
_SAID = 300  # characters of what an installer says


def python_of(peer: str, report: Callable[[str], None] = lambda line: None) -> Path:
    """Return the interpreter of a peer's environment, which is made if it is not there.

    Raises ServeError where it cannot be installed.
    """
    lock = _LOCKS / f"{peer}.lock"
    folder = _cache() / f"{peer}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    python = folder / "bin" / "python"
    complete = folder / ".installed"
    if not complete.exists():
        report(f"installing {lock.name}")
        shutil.rmtree(folder, ignore_errors=True)
        _uv(peer, "venv", "--quiet", "--python", sys.executable, str(folder))
        install = ("pip", "install", "--quiet", "--no-deps", "--python", str(python))
        _uv(peer, *install, "--requirement", str(lock))
        complete.touch()
    return python


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "strata" / "bench"


def _uv(peer: str, *arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    environment = {**os.environ, "UV_NATIVE_TLS": "1"}
    done = subprocess.run(
        [str(uv), *arguments], env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-_SAID:]
        raise ServeError(f"{peer} cannot be installed: {said}; is the package index reachable?")
