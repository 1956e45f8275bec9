"""The lines that Strata adds to HAProxy's configuration: the `.cfg` files of this folder."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from serve.errors import ConfigError

_FOLDER = Path(__file__).parent


def folder() -> Path:
    """Return the folder that they are in."""
    return _FOLDER


@cache
def template(name: str) -> list[str]:
    """Return the lines of a file. Raises ConfigError if it is not there."""
    try:
        return (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    except OSError as err:
        raise ConfigError(f"{err.filename} cannot be read; install Strata anew") from err


def filled(line: str, values: Mapping[str, str]) -> str:
    """Return a line with the values in place of their names."""
    for name, value in values.items():
        line = line.replace(name, value)
    return line
