"""The manifests in k8s/ that are no part of the chart."""

import pytest
import yaml

from tests.chart.conftest import ROOT, rayservice, rendered
from tests.chart.schemas import problems

RAYJOBS = sorted((ROOT / "k8s").glob("rayjob-*.yaml"))


def job(path):
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", RAYJOBS, ids=lambda path: path.stem)
def test_every_job_fits_kuberays_schema(path):
    assert not problems(job(path))


@pytest.mark.parametrize("path", RAYJOBS, ids=lambda path: path.stem)
def test_every_job_runs_what_the_chart_runs_and_as_restricted(path):
    cluster = job(path)["spec"]["rayClusterSpec"]
    chart = rayservice(rendered())["spec"]["rayClusterConfig"]
    assert cluster["rayVersion"] == chart["rayVersion"]
    ours = chart["headGroupSpec"]["template"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"] == ours["securityContext"]
        for key in ("image", "securityContext"):
            assert pod["containers"][0][key] == ours["containers"][0][key]
        (repository,) = (each for each in ours["volumes"] if each["name"] == "repository")
        assert pod["volumes"][-1] == repository
