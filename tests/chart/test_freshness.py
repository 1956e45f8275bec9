"""What is made from the code is what the code makes."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.chart import schemas
from tests.chart.conftest import CHART, ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from chart_files import chart_files

FILES = chart_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_made_file_of_the_chart_is_fresh(path):
    assert path.read_text() == FILES[path], "run scripts/generate"


def test_the_plain_manifests_are_the_chart_with_its_defaults():
    script = ROOT / "scripts" / "manifests"
    done = subprocess.run([script, "--print"], capture_output=True, text=True, check=True)
    kept = (ROOT / "k8s" / "strata.yaml").read_text()
    # As objects: helm's versions differ in empty lines.
    assert objects(kept) == objects(done.stdout), "run scripts/manifests"


def objects(text):
    return list(yaml.load_all(text, yaml.CSafeLoader))


def test_schemas_and_helm_are_of_the_versions_that_the_test_cluster_runs():
    text = (ROOT / "scripts" / "cluster" / "tools" / "go.mod").read_text()
    pins = dict(re.findall(r"^\s*(?:require )?(\S+) (v\S+)", text, re.MULTILINE))
    settings = (ROOT / "scripts" / "cluster" / "settings").read_text()
    pins |= dict(re.findall(r"^\w+=(github\S+)@(v\S+)", settings, re.MULTILINE))
    for module, version, _ in schemas.MODULES.values():
        assert pins[module] == version
    assert pins["helm.sh/helm/v4"] in (ROOT / "scripts" / "helm").read_text()
    assert pins["k8s.io/kubernetes"].rsplit(".", 1)[0] == schemas.KUBERNETES.rsplit(".", 1)[0]


def test_the_prometheus_that_is_built_is_the_one_that_the_chart_runs():
    text = (ROOT / "scripts" / "cluster" / "image" / "prometheus" / "go.mod").read_text()
    (minor, patch) = re.search(r"prometheus/prometheus v0\.(\d+)\.(\d+)", text).groups()
    image = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["prometheus"]["image"]
    # Of version 3.13 the Go module is v0.313, as a v3 of it would be another module.
    assert image == f"prom/prometheus:v{minor[0]}.{int(minor[1:])}.{patch}"
