"""The image is made by Docker or by scripts/image, and is the same image."""

import re

from tests.chart.conftest import ROOT

DOCKERFILE = (ROOT / "k8s" / "Dockerfile").read_text()
SCRIPT = (ROOT / "scripts" / "image").read_text()
STEPS = {path.name: path.read_text() for path in (ROOT / "k8s" / "image").iterdir()}


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


def test_what_a_step_reads_is_handed_to_it_by_both_ways():
    """Docker has what its ignore file names; scripts/image makes a layer anew by its list."""
    kept = (ROOT / "k8s" / "Dockerfile.dockerignore").read_text()
    read = re.findall(r"/tmp/src/(?:\{([\w.,-]+)\}|([\w./-]+))", STEPS["project"])
    paths = {path for many, one in read for path in (many or one).split(",")} - {"scripts"}
    assert {"serve", "pyproject.toml", "k8s/image/bill.lock"} <= paths
    paths.add("scripts/supply")  # the package on the PYTHONPATH of scripts/
    (layer,) = re.findall(r"project=\$\(layer (.*?)\)\n", SCRIPT, re.S)
    for path in paths:
        assert path in layer
        assert re.search(f"^!{path}$|^!k8s/image$", kept, re.M) if "/" in path else path in kept


def test_the_bill_of_materials_that_lies_beside_the_image_is_the_one_in_it():
    (inside,) = re.findall(r"^ .* /(usr/share/\S+\.cdx\.json)$", STEPS["project"], re.M)
    assert f"\nbill={inside}\n" in SCRIPT
    ways = re.findall(r"/\$bill\" >? ?\"\$output\.cdx\.json\"", SCRIPT)
    assert len(ways) == 2  # of Docker's image, and of the layer


def test_the_image_keeps_the_licences_of_debians_packages():
    assert "! -name copyright -delete" in STEPS["system"]
    assert "/usr/share/doc/*" not in STEPS["system"]
