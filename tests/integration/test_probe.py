"""What `helm test` and the chart's readiness check run, against a real platform."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROBE = Path(__file__).parents[2] / "helm" / "strata" / "files" / "probe.py"


def probe(*arguments):
    command = [sys.executable, "-I", _PROBE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.integration
def test_every_kind_of_model_passes_the_probe(served):
    models = ("digits", "digits-h5", "text", "calc", "cascade-colocated")
    for verb in ("ready", "infer"):
        done = probe(verb, served.url, "30", *models)
        assert done.returncode == 0, done.stderr
    assert "digits: probabilities FP32 [1, 10]" in done.stdout


@pytest.mark.integration
def test_a_model_that_is_not_there_fails_the_probe_after_its_time(served):
    for verb in ("ready", "infer"):
        done = probe(verb, served.url, "0.1", "absent")
        assert done.returncode == 1
        assert "404" in done.stderr
