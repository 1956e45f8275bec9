"""Write an image's bill of materials: every package in it with its version, licence and purl.

Python's and Debian's, that is. The image's last step runs this inside of the image, so it names
what is there and not what was wanted: what `--packages` or a GPU build adds is in it too. The form:
CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/ and https://github.com/package-url/purl-spec.
"""

import argparse
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from supply.licences import Licences
from supply.locks import normalised

PROJECT = "strata-serve"
_DOC = Path("/usr/share/doc")
# The form of copyright files that machines can read.
_MACHINE_READABLE = re.compile(r"^Format: *https?://www\.debian\.org/doc/packaging-manuals/", re.M)
_LICENCE_LINE = re.compile(r"^License: *(\S.*?) *$", re.MULTILINE)


def python_packages(folder: Path, licences: Licences) -> list[Component]:
    """Return what is installed in a site-packages folder, this project aside."""
    found = {normalised(each.name): each for each in distributions(path=[str(folder)])}
    return [
        _component(PackageURL("pypi", name=name, version=each.version), _licence(each, licences))
        for name, each in sorted(found.items())
        if name != PROJECT
    ]


def _licence(package: Distribution, licences: Licences) -> str:
    # Of what was added to the image by name licences.toml may know nothing.
    said = package.metadata["License"] or "see its files"
    return licences.of(package) or said.strip().splitlines()[0]


def debian_packages(status: str, doc: Path = _DOC) -> list[Component]:
    """Return what dpkg-query says is installed: a line each, name, version, architecture."""
    rows = sorted(line.split("\t") for line in status.splitlines())
    return [
        _component(
            PackageURL(
                "deb", "debian", name, version, qualifiers={"arch": arch, "distro": "debian-12"}
            ),
            *debian_licences(doc / name / "copyright"),
        )
        for name, version, arch in rows
    ]


def debian_licences(copyright_file: Path) -> list[str]:
    """Return the short names of licences in Debian's own words, of all files of the source package.

    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    text = copyright_file.read_text(errors="replace") if copyright_file.exists() else ""
    names = sorted(set(_LICENCE_LINE.findall(text))) if _MACHINE_READABLE.search(text) else []
    return names or [f"see {copyright_file}"]


def _component(purl: PackageURL, *licences: str) -> Component:
    return Component(
        name=purl.name,
        version=purl.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=_made(purl, licences),
    )


def _made(purl: PackageURL, licences: tuple[str, ...]) -> Iterator[License]:
    factory = LicenseFactory()
    for licence in licences:
        # Debian's names look like SPDX's and differ: GPL-2+ is none, and its Expat is MIT.
        by_name = purl.type == "deb"
        yield factory.make_with_name(licence) if by_name else factory.make_from_string(licence)


def bill(version: str, components: list[Component]) -> str:
    """Return the bill of an image of this project's version; the same for the same packages."""
    image = Component(name="strata", version=version, type=ComponentType.CONTAINER, bom_ref="image")
    image.licenses.add(LicenseFactory().make_from_string("Apache-2.0"))
    made = Bom(components=components)
    made.metadata.component = image
    # An image made twice is the same image; the form allows none, the library's types do not.
    made.metadata.timestamp = None  # type: ignore[assignment]
    purls = sorted(str(component.purl) for component in components)
    made.serial_number = uuid5(NAMESPACE_URL, "\n".join([version, *purls]))
    made.register_dependency(image, components)
    writer = make_outputter(made, OutputFormat.JSON, SchemaVersion.V1_6)
    return writer.output_as_string(indent=1) + "\n"


def main() -> None:
    """Write the bill of the image that this runs in."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("site_packages", type=Path)
    options.add_argument("output", type=Path)
    given = options.parse_args()
    own = next(iter(distributions(name=PROJECT, path=[str(given.site_packages)])))
    query = ["dpkg-query", "--show", "--showformat", r"${Package}\t${Version}\t${Architecture}\n"]
    status = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    packages = python_packages(given.site_packages, Licences.read()) + debian_packages(status)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(bill(own.version, packages))


if __name__ == "__main__":
    main()
