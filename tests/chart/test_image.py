"""The image is made by Docker or by scripts/image, and is the same image."""

import re

from tests.chart.conftest import ROOT

DOCKERFILE = (ROOT / "k8s" / "Dockerfile").read_text()
SCRIPT = (ROOT / "scripts" / "image").read_text()


def test_both_ways_run_the_same_steps_in_the_same_order():
    docker = re.findall(
        r"^ +(?:EXTRA=\$EXTRA EXTRA_PACKAGES=\$EXTRA_PACKAGES )?/tmp/src/k8s/image/(\w+)$",
        DOCKERFILE,
        re.M,
    )
    ours = re.findall(r"^ +(\w+)=\$\(layer k8s/image/\1 ", SCRIPT, re.M)
    assert docker == ours == ["system", "dependencies", "project"]


def test_both_ways_run_as_the_same_user_in_the_same_folder():
    user, workdir = (
        re.search(rf"^{word} (\S+)$", DOCKERFILE, re.M)[1] for word in ("USER", "WORKDIR")
    )
    assert f"--user {user} --workdir {workdir}" in SCRIPT


def test_what_a_step_reads_decides_whether_it_is_made_anew():
    """Docker hashes what it mounts; scripts/image hashes what it is told."""
    mounts = re.findall(r"source=(requirements[\w.-]+)", DOCKERFILE)
    assert mounts
    assert all(f" {name})" in SCRIPT for name in mounts)
