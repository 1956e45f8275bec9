"""Which licence a package has, and whether it is one that Strata takes.

Called by scripts/lint for what the lock files install, and by bill for what an image holds.
Packages say their licence in three places and many ways; licences.toml has what they mean, and the
exceptions.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError
from importlib.metadata import distribution as installed
from pathlib import Path
from typing import Any

from license_expression import AND, OR, get_spdx_licensing

from supply.locks import LOCKS, normalised, pinned

_FILE = Path(__file__).with_name("licences.toml")
_SPDX = get_spdx_licensing()


@dataclass(frozen=True)
class Licences:
    """licences.toml: what is taken, what packages' words mean, and who is an exception."""

    permissive: frozenset[str]
    words: Mapping[str, str]
    packages: Mapping[str, Mapping[str, str]]
    exceptions: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, path: Path = _FILE) -> "Licences":
        """Read the file; an entry for a package that says no reason is an error."""
        tree = tomllib.loads(path.read_text())
        for section in ("packages", "exceptions"):
            for name, entry in tree[section].items():
                if entry.keys() != {"licence", "reason"} or not all(entry.values()):
                    raise SystemExit(f"{path.name}: {section}.{name} needs a licence and a reason")
        permissive = frozenset(tree["permissive"])
        return cls(permissive, tree["words"], tree["packages"], tree["exceptions"])

    def of(self, package: Distribution) -> str | None:
        """Return the SPDX expression of a package's licence, or None if it cannot be told."""
        name, metadata = normalised(package.name), package.metadata
        if expression := metadata["License-Expression"]:
            return str(_SPDX.parse(expression))
        if name in self.packages:
            return self.packages[name]["licence"]
        said = [metadata["License"], *_classifiers(metadata)]
        meant = [self.words[words] for words in said if words in self.words]
        return meant[0] if meant else None

    def are_permissive(self, expression: str) -> bool:
        """Tell whether an expression can be met by permissive licences alone."""
        return self._allows(_SPDX.parse(expression))

    def _allows(self, parsed: Any) -> bool:
        if isinstance(parsed, AND):
            return all(self._allows(part) for part in parsed.args)
        if isinstance(parsed, OR):
            return any(self._allows(part) for part in parsed.args)
        return str(parsed) in self.permissive


def _classifiers(metadata: Any) -> list[str]:
    lines = metadata.get_all("Classifier") or []
    return [line.rpartition(" :: ")[2] for line in lines if line.startswith("License ::")]


def problems(wanted: Mapping[str, str], licences: Licences) -> Iterator[str]:
    """Yield a sentence for each of these packages whose licence is not taken."""
    for name, version in wanted.items():
        try:
            package = installed(name)
        except PackageNotFoundError:
            yield f"{name} is pinned and not installed; run scripts/install --dev"
            continue
        if sentence := _problem(name, licences.of(package), licences):
            yield f"{name} {version}: {sentence}"
    for name in sorted(licences.exceptions.keys() | licences.packages.keys()):
        if name not in wanted:
            yield f"{name} is in {_FILE.name} and in no lock file; take it out"


def _problem(name: str, licence: str | None, licences: Licences) -> str | None:
    if licence is None:
        return (
            f"its metadata does not say the licence in words that {_FILE.name} knows;"
            " read it, and add the words or the package there"
        )
    excepted = licences.exceptions.get(name, {}).get("licence")
    if licences.are_permissive(licence):
        return "an exception that it does not need; take it out" if excepted else None
    if excepted == licence:
        return None
    return (
        f"the licence {licence} is not among those that are taken;"
        f" do without it, or say in {_FILE.name} why it may stay"
    )


def main() -> None:
    """Check what the lock files pin; exit with a sentence for each problem."""
    wanted = {name: version for lock in LOCKS for name, version in pinned(lock).items()}
    found = list(problems(wanted, Licences.read()))
    if found:
        raise SystemExit("licences:\n  " + "\n  ".join(found))
    print(f"licences: {len(wanted)} packages, all permissive or a listed exception")


if __name__ == "__main__":
    main()
