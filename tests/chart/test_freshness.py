"""What is made from the code is what the code makes."""

import subprocess
import sys

import pytest
import yaml

from tests.chart.conftest import ROOT

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
