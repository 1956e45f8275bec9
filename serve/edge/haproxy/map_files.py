"""Files of HAProxy's maps: a line for each entry, its key, a space and its value."""

from collections.abc import Mapping
from pathlib import Path

from serve.edge.haproxy.whole_files import write_whole


def entries_in(map_file: Path) -> dict[str, str]:
    """Return what a map's file has; nothing if there is none."""
    try:
        lines = map_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return dict(line.split(" ", 1) for line in lines)


def write_entries(map_file: Path, entries: Mapping[str, str]) -> None:
    """Write a map's file anew."""
    write_whole(map_file, "".join(f"{key} {value}\n" for key, value in entries.items()))
