"""Tell which pinned packages have known vulnerabilities, as OSV knows them.

Called by scripts/audit, and by that from scripts/lint. What a commit is told must not depend on the
day: lint fails by what was known when the lock file was made, and only warns of what was published
since, or of an entry of ignored.toml that ran out. `--strict` fails by these too; a job for every
night runs that. The API: https://google.github.io/osv.dev/api/, https://ossf.github.io/osv-schema/.
"""

import argparse
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import requests

from supply.locks import DEV_LOCK, made_on, pinned

OSV = "https://api.osv.dev"
IGNORED = Path(__file__).with_name("ignored.toml")
_MOST_QUERIES = 1000  # in one call, says the API
_TIMEOUT_S = (10, 60)  # to connect, and between two bytes


@dataclass(frozen=True)
class Vulnerability:
    """One that a pinned version has; `names` are its id and those that others gave it."""

    package: str
    names: frozenset[str]
    published: date
    text: str


@dataclass(frozen=True)
class Ignored:
    """An entry of ignored.toml: a vulnerability that is borne until a day, and why."""

    id: str
    reason: str
    until: date


@dataclass
class Report:
    """What an audit says: `failures` fail always, `warnings` only where it is strict."""

    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def known_vulnerabilities(url: str, packages: Mapping[str, str]) -> list[Vulnerability]:
    """Ask for all versions at once; raise requests.RequestException where there is no answer."""
    found: list[Vulnerability] = []
    records: dict[str, Any] = {}
    for package, version, identity in _identities(url, packages):
        if identity not in records:
            records[identity] = _answer("GET", f"{url}/v1/vulns/{identity}", "id")
        if "withdrawn" not in records[identity]:
            found = _with(found, _vulnerability(package, version, records[identity]))
    return found


def _with(found: list[Vulnerability], new: Vulnerability) -> list[Vulnerability]:
    """Add one; two databases have the same one, each under a name of its own."""
    for same in found:
        if same.package == new.package and same.names & new.names:
            both = replace(
                same, names=same.names | new.names, published=min(same.published, new.published)
            )
            return [both if each is same else each for each in found]
    return [*found, new]


def _vulnerability(package: str, version: str, record: Mapping[str, Any]) -> Vulnerability:
    others = record.get("aliases", [])
    said = f"{package} {version}: {record['id']} " + (f"({', '.join(others)}) " if others else "")
    # The schema asks for the last change alone.
    published = datetime.fromisoformat(record.get("published", record.get("modified"))).date()
    names = frozenset([record["id"], *others])
    return Vulnerability(package, names, published, f"{said}{_summary(record)}")


def _identities(url: str, packages: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield package, version and the id of a vulnerability; pages are followed to their end."""
    queries: list[dict[str, Any]] = [
        {"package": {"ecosystem": "PyPI", "name": name}, "version": version}
        for name, version in packages.items()
    ]
    while queries:
        now, queries = queries[:_MOST_QUERIES], queries[_MOST_QUERIES:]
        results = _answer("POST", f"{url}/v1/querybatch", "results", {"queries": now})["results"]
        for query, result in zip(now, results, strict=True):
            for vulnerability in result.get("vulns", []):
                yield query["package"]["name"], query["version"], vulnerability["id"]
            if token := result.get("next_page_token"):
                queries.append(query | {"page_token": token})


def _answer(method: str, url: str, key: str, body: Any = None) -> Any:
    response = requests.request(method, url, json=body, timeout=_TIMEOUT_S)
    response.raise_for_status()
    answer = response.json()
    if not isinstance(answer, dict) or key not in answer:
        raise requests.exceptions.InvalidJSONError(f"the answer of {url} has no {key}")
    return answer


def _summary(record: Mapping[str, Any]) -> str:
    events = [
        event
        for affected in record.get("affected", [])
        for span in affected.get("ranges", [])
        if span["type"] != "GIT"
        for event in span["events"]
    ]
    fixed = sorted({event["fixed"] for event in events if "fixed" in event})
    repair = f"fixed in {', '.join(fixed)}" if fixed else "not fixed yet"
    return f"{record.get('summary', 'no summary')}; {repair}"


def judge(
    found: list[Vulnerability], ignored: list[Ignored], locked_on: date, today: date
) -> Report:
    """Sort what was found by what lint may fail for; see the head of this module."""
    report = Report()
    for each in found:
        entry = next((entry for entry in ignored if entry.id in each.names), None)
        if entry and entry.until >= today:
            continue
        if entry:
            report.warnings.append(f"{each.text}; ignored until {entry.until}, which is over")
        elif each.published > locked_on:
            report.warnings.append(f"{each.text}; not known when the lock files were made")
        else:
            report.failures.append(each.text)
    names = {name for each in found for name in each.names}
    for entry in ignored:
        if entry.id not in names:
            report.warnings.append(f"{IGNORED.name}: nothing has {entry.id} any more; take it out")
    return report


def read_ignored(path: Path = IGNORED) -> list[Ignored]:
    """Read the file; an entry without its three keys is an error."""
    entries = tomllib.loads(path.read_text()).get("ignored", [])
    for entry in entries:
        if entry.keys() != {"id", "reason", "until"} or not entry["reason"]:
            raise SystemExit(f"{path.name}: needs an id, a reason and until: {entry}")
        if type(entry["until"]) is not date:
            raise SystemExit(f"{path.name}: {entry['id']}: until must be a day, as 2026-12-31")
    return [Ignored(**entry) for entry in entries]


def main() -> None:
    """Audit what the lock files pin."""
    options = argparse.ArgumentParser(prog="scripts/audit", description=__doc__)
    options.add_argument("--strict", action="store_true", help="fail by warnings, and without data")
    options.add_argument("--url", default=OSV, help="a mirror of OSV's API")
    given = options.parse_args()
    ignored, packages = read_ignored(), pinned(DEV_LOCK)
    try:
        found = known_vulnerabilities(given.url.rstrip("/"), packages)
    except requests.RequestException as err:
        print(_no_data(given.url, err))
        raise SystemExit(1 if given.strict else 0) from None
    report = judge(found, ignored, made_on(DEV_LOCK), datetime.now(UTC).date())
    _tell(report)
    if report.failures or (given.strict and report.warnings):
        raise SystemExit("audit: update them with scripts/lock, or list them in ignored.toml")
    print(f"audit: {len(packages)} packages, {len(found)} vulnerabilities known")


def _no_data(url: str, err: requests.RequestException) -> str:
    line = "!" * 80
    return (
        f"{line}\nTHE AUDIT DID NOT RUN: {url} does not say which packages are vulnerable"
        f" ({type(err).__name__}: {err}).\nThis does not say that none is: run it where that can"
        f" be reached.\n{line}"
    )


def _tell(report: Report) -> None:
    for sentence in report.failures:
        print(f"audit: {sentence}")
    for sentence in report.warnings:
        print(f"audit: WARNING: {sentence}")


if __name__ == "__main__":
    main()
