import json
from importlib.metadata import distribution
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from supply.bill import bill, debian_licences, debian_packages, main, python_packages
from supply.licences import Licences
from supply.locks import IMAGE_LOCK, pinned

SITE_PACKAGES = Path(str(distribution("ray").locate_file("")))
STATUS = "wget\t1.21.3-1+deb12u1\tamd64\nopenssl\t1:3.0.20-1~deb12u1\tamd64\n"
MACHINE_READABLE = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
License: Expat
 Permission is hereby granted

Files: debian/*
License: GPL-2+
"""


@pytest.fixture(scope="module")
def packages():
    return python_packages(SITE_PACKAGES, Licences.read())


def test_it_names_every_pinned_package_with_version_licence_and_purl(packages):
    listed = {each["name"]: each for each in json.loads(bill("1.0", packages))["components"]}
    for name, version in pinned(IMAGE_LOCK).items():
        component = listed[name]
        assert component["version"] == version
        purl = PackageURL.from_string(component["purl"])
        assert (purl.type, purl.name, purl.version) == ("pypi", name, version)
        (licence,) = component["licenses"]
        assert licence.get("expression") or licence["license"].get("id"), name
    assert "strata-serve" not in listed  # the image's own version says that


def test_it_is_valid_cyclonedx(packages):
    text = bill("1.0", [*packages, *debian_packages(STATUS)])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_same_packages_make_the_same_bill_and_others_another_number(packages):
    first, again = (bill("1.0", list(order)) for order in (packages, reversed(packages)))
    assert first == again
    other = json.loads(bill("1.0", packages[1:]))
    assert other["serialNumber"] != json.loads(first)["serialNumber"]


def test_debians_packages_have_purls_with_their_whole_versions():
    listed = json.loads(bill("1.0", debian_packages(STATUS)))["components"]
    purls = {each["name"]: PackageURL.from_string(each["purl"]) for each in listed}
    assert purls["openssl"].version == "1:3.0.20-1~deb12u1"
    assert purls["wget"].version == "1.21.3-1+deb12u1"
    assert purls["wget"].qualifiers == {"arch": "amd64", "distro": "debian-12"}


def test_debians_licences_are_those_of_the_copyright_file(tmp_path):
    file = tmp_path / "copyright"
    file.write_text(MACHINE_READABLE)
    assert debian_licences(file) == ["Expat", "GPL-2+"]
    file.write_text("License: in prose\n")
    assert debian_licences(file) == [f"see {file}"]


def test_a_package_of_unknown_licence_is_named_all_the_same(tmp_path):
    folder = tmp_path / "added-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: Added\nVersion: 1.0\nLicense: Ours\n")
    (component,) = json.loads(bill("1", python_packages(tmp_path, Licences.read())))["components"]
    assert (component["name"], component["version"]) == ("added", "1.0")
    assert component["licenses"] == [{"license": {"name": "Ours"}}]


def test_the_image_says_the_version_of_the_project(tmp_path, monkeypatch):
    folder = tmp_path / "strata_serve-7.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: strata-serve\nVersion: 7.1\n")
    query = tmp_path / "dpkg-query"
    query.write_text(f"#!/bin/sh\ncat <<END\n{STATUS}END\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    output = tmp_path / "share" / "sbom.cdx.json"
    monkeypatch.setattr("sys.argv", ["bill", str(tmp_path), str(output)])
    main()
    made = json.loads(output.read_text())
    assert made["metadata"]["component"]["version"] == "7.1"
    assert {each["name"] for each in made["components"]} == {"wget", "openssl"}
