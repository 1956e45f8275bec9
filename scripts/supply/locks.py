"""Read the lock files: which packages they pin, and on which day they were made."""

import re
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEV_LOCK = ROOT / "requirements-dev.lock"
IMAGE_LOCK = ROOT / "requirements-offline.lock"
# The others pin what the first pins, or less.
LOCKS = (DEV_LOCK, IMAGE_LOCK, ROOT / "requirements.lock", ROOT / "k8s" / "image" / "bill.lock")

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)", re.MULTILINE)
_MADE = re.compile(r"^# Made by scripts/lock on (\d{4}-\d\d-\d\d);")


def pinned(lock: Path) -> dict[str, str]:
    """Return the version of every package that a lock file pins, by its normalised name."""
    return {normalised(name): version for name, version in _PIN.findall(lock.read_text())}


def normalised(name: str) -> str:
    """Return a name as the package index compares it:
    https://packaging.python.org/en/latest/specifications/name-normalization/
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def made_on(lock: Path) -> date:
    """Return the day on which scripts/lock made a file."""
    made = _MADE.match(lock.read_text())
    if not made:
        raise SystemExit(f"{lock.name}: its first line does not say when; run scripts/lock")
    return date.fromisoformat(made[1])
