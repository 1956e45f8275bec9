import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="it has wheels for Linux on x86-64 alone")

_ROOT = Path(__file__).parents[3]


def _run(*args):
    return subprocess.run(
        [sys.executable, "-m", "fuzz_targets.run", *map(str, args)],
        cwd=_ROOT,
        env={"PYTHONPATH": f"{_ROOT}:{_ROOT / 'scripts'}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_target_is_fuzzed_and_what_is_learned_is_kept(tmp_path):
    (tmp_path / "paths" / "seeds").mkdir(parents=True)
    (tmp_path / "paths" / "seeds" / "one").write_bytes(b"v2/models/m/infer")
    ran = _run("paths", "--seconds", 1, "--folder", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "stat::number_of_executed_units" in ran.stderr
    assert list((tmp_path / "paths" / "corpus").iterdir())


def test_a_finding_is_run_again(tmp_path):
    (tmp_path / "found").write_bytes(b"v2/models/m/infer")
    ran = _run("paths", "--folder", tmp_path, "--replay", tmp_path / "found")
    assert ran.returncode == 0, ran.stderr
