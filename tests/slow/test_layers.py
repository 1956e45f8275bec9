"""The README's lines about layers, run as written on the reference models."""

import json
import re
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pytestconfig):
    """A folder with the demo's strata.yaml and the models of its cascade."""
    folder = tmp_path_factory.mktemp("layers")
    shutil.copy(pytestconfig.rootpath / "strata.yaml", folder)
    for model in ("digits", "digits-small", "digits-large"):
        _run(folder, f"train {model}")
    return folder


def _run(folder, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "serve", *arguments.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _readme_lines(pytestconfig, command):
    text = (pytestconfig.rootpath / "README.md").read_text()
    return re.findall(rf"^\.venv/bin/strata ({command} [^#\n]*)", text, re.MULTILINE)


def test_compare_runs_as_written_and_the_cascade_keeps_what_it_promises(folder, pytestconfig):
    (line,) = _readme_lines(pytestconfig, "compare")
    _run(folder, line)
    rows = json.loads((folder / "compare" / "compare.json").read_text())["compared"]
    layered, large = (
        next(row for row in rows if row["name"] == name)
        for name in ("digits-layered", "digits-large")
    )
    assert large["accuracy"] >= 0.985
    assert layered["accuracy"] >= large["accuracy"] - 0.003
    assert layered["flops"] <= 0.4 * large["flops"]


def test_tune_runs_as_written_and_writes_its_threshold(folder, pytestconfig):
    (line,) = _readme_lines(pytestconfig, "tune")
    before = (folder / "strata.yaml").read_text()
    printed = _run(folder, line)
    assert "on the second half" in printed
    after = (folder / "strata.yaml").read_text()
    assert after != before
    assert "# strata tune finds the value" in after
