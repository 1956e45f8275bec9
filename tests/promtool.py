"""Prometheus' own check of rules and expressions."""

import subprocess
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def promtool(*arguments):
    """Run promtool, which is fetched if need be; fails with what it says unless it accepts."""
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def _program():
    script = _ROOT / "scripts" / "prometheus"
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()) / "promtool"
