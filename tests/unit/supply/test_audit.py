"""Against a stand-in for OSV's API, whose answers have the form of https://ossf.github.io/osv-schema/."""

import json
from collections import Counter
from datetime import date

import pytest
import requests
from supply import audit
from supply.audit import Ignored, judge, known_vulnerabilities, read_ignored

from tests.loopback import serving

LOCKED, TODAY = date(2026, 6, 1), date(2026, 9, 1)


def record(identity, published="2026-01-02T03:04:05Z", **more):
    span = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}
    git = {"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "a1b2c3"}]}
    affected = [{"package": {"name": "a"}, "ranges": [span, git]}]
    told = {"id": identity, "published": published, "summary": "runs code", "affected": affected}
    return told | more


class Osv:
    """Knows vulnerabilities of package versions; answers a page of `page` of them at a time."""

    def __init__(self, vulnerable, records, page=100):
        self.vulnerable, self.page = vulnerable, page
        self.records = {each["id"]: each for each in records}
        self.asked = Counter()

    def __call__(self, asked):
        self.asked[asked.path] += 1
        if asked.path == "/v1/querybatch":
            queries = json.loads(asked.body)["queries"]
            return 200, {"results": [self._result(query) for query in queries]}
        return 200, self.records[asked.path.removeprefix("/v1/vulns/")]

    def _result(self, query):
        assert query["package"]["ecosystem"] == "PyPI"
        start = int(query.get("page_token", 0))
        ids = self.vulnerable.get((query["package"]["name"], query["version"]), [])
        result = {"vulns": [{"id": each} for each in ids[start : start + self.page]]}
        if not ids:
            return {}
        more = start + self.page < len(ids)
        return result | ({"next_page_token": str(start + self.page)} if more else {})


def found(osv, packages):
    with serving(osv) as port:
        return known_vulnerabilities(f"http://127.0.0.1:{port}", packages)


def test_a_vulnerable_version_is_found_with_what_helps():
    osv = Osv({("a", "1.0"): ["GHSA-1"]}, [record("GHSA-1", aliases=["CVE-2026-1"])])
    (one,) = found(osv, {"a": "1.0", "b": "2.0"})
    assert one.text == ("a 1.0: GHSA-1 (CVE-2026-1) runs code; fixed in 1.1")
    assert not found(osv, {"a": "1.1"})


def test_pages_are_followed_and_no_record_is_asked_for_twice(monkeypatch):
    monkeypatch.setattr(audit, "_MOST_QUERIES", 2)
    ids = [f"GHSA-{number}" for number in range(5)]
    osv = Osv({("a", "1"): ids, ("c", "1"): ids[:1]}, [record(each) for each in ids], page=2)
    names = {name for one in found(osv, {"a": "1", "b": "1", "c": "1"}) for name in one.names}
    assert names == set(ids)
    assert {osv.asked[f"/v1/vulns/{each}"] for each in ids} == {1}


def test_what_two_databases_have_is_one_of_the_earlier_day():
    osv = Osv(
        {("a", "1"): ["GHSA-1", "PYSEC-1"]},
        [
            record("GHSA-1", aliases=["CVE-1"]),
            record("PYSEC-1", "2025-05-05T00:00:00Z", aliases=["CVE-1"]),
        ],
    )
    (one,) = found(osv, {"a": "1"})
    assert one.names == {"GHSA-1", "PYSEC-1", "CVE-1"}
    assert one.published == date(2025, 5, 5)


def test_a_record_without_a_day_counts_from_its_last_change():
    told = record("GHSA-1", modified="2026-03-04T00:00:00Z")
    del told["published"], told["affected"], told["summary"]
    (one,) = found(Osv({("a", "1"): ["GHSA-1"]}, [told]), {"a": "1"})
    assert one.published == date(2026, 3, 4)
    assert one.text == "a 1: GHSA-1 no summary; not fixed yet"


def test_what_was_withdrawn_is_none():
    gone = record("GHSA-1", withdrawn="2026-02-02T00:00:00Z")
    assert not found(Osv({("a", "1"): ["GHSA-1"]}, [gone]), {"a": "1"})


def judged(published, *ignored):
    osv = Osv({("a", "1"): ["GHSA-1"]}, [record("GHSA-1", published, aliases=["CVE-1"])])
    report = judge(found(osv, {"a": "1"}), list(ignored), LOCKED, TODAY)
    return len(report.failures), len(report.warnings)


@pytest.mark.parametrize(
    ("published", "failures_and_warnings"),
    [("2026-06-01T23:59:59Z", (1, 0)), ("2026-06-02T00:00:00Z", (0, 1))],
)
def test_lint_fails_by_what_was_known_when_the_locks_were_made(published, failures_and_warnings):
    assert judged(published) == failures_and_warnings


@pytest.mark.parametrize("name", ["GHSA-1", "CVE-1"])
def test_an_entry_holds_until_its_day_and_is_a_warning_after_it(name):
    assert judged("2026-01-01T00:00:00Z", Ignored(name, "why", TODAY)) == (0, 0)
    assert judged("2026-01-01T00:00:00Z", Ignored(name, "why", date(2026, 8, 31))) == (0, 1)


def test_an_entry_that_nothing_has_any_more_is_a_warning():
    assert judged("2026-01-01T00:00:00Z", Ignored("GHSA-2", "why", TODAY)) == (1, 1)


@pytest.mark.parametrize(
    "entry",
    [
        'id = "A"\nreason = "b"',
        'id = "A"\nuntil = 2026-01-01',
        'id = "A"\nreason = ""\nuntil = 2026-01-01',
        'id = "A"\nreason = "b"\nuntil = "soon"',
        'id = "A"\nreason = "b"\nuntil = 2026-01-01T00:00:00Z',
    ],
)
def test_an_entry_without_a_reason_or_a_day_is_refused(tmp_path, entry):
    path = tmp_path / "ignored.toml"
    path.write_text(f"[[ignored]]\n{entry}\n")
    with pytest.raises(SystemExit, match=r"ignored\.toml"):
        read_ignored(path)


def test_a_whole_entry_and_a_file_without_any_are_read(tmp_path):
    path = tmp_path / "ignored.toml"
    path.write_text('[[ignored]]\nid = "A"\nreason = "b"\nuntil = 2026-01-01\n')
    assert read_ignored(path) == [Ignored("A", "b", date(2026, 1, 1))]
    path.write_text("# none\n")
    assert read_ignored(path) == []
    read_ignored()


def run(monkeypatch, respond, *options):
    with serving(respond) as port:
        url = f"http://127.0.0.1:{port}/"
        monkeypatch.setattr("sys.argv", ["scripts/audit", "--url", url, *options])
        try:
            audit.main()
        except SystemExit as ended:
            return ended.code or 0
        return 0


# Nobody there, a proxy's page, and an answer of another form.
@pytest.mark.parametrize("reply", [(503, "busy"), (200, "<html>log in</html>"), (200, {"x": 1})])
def test_without_data_lint_goes_on_and_says_so_loudly(monkeypatch, capsys, reply):
    assert run(monkeypatch, lambda _: reply) == 0
    assert "THE AUDIT DID NOT RUN" in capsys.readouterr().out
    assert run(monkeypatch, lambda _: reply, "--strict") == 1


def test_without_a_server_lint_goes_on():
    with serving(lambda _: (200, {})) as port:
        pass
    with pytest.raises(requests.RequestException):
        known_vulnerabilities(f"http://127.0.0.1:{port}", {"a": "1"})


@pytest.mark.parametrize(
    ("published", "plain", "strict"), [("2026-01-01", 1, 1), ("2099-01-01", 0, 1), (None, 0, 0)]
)
def test_strict_fails_by_what_lint_warns_of(monkeypatch, capsys, published, plain, strict):
    monkeypatch.setattr(audit, "pinned", lambda _: {"a": "1"})
    ids = ["GHSA-1"] if published else []
    osv = Osv({("a", "1"): ids}, [record("GHSA-1", f"{published}T00:00:00Z")])
    assert bool(run(monkeypatch, osv)) == plain
    assert ("GHSA-1" in capsys.readouterr().out) == bool(published)
    assert bool(run(monkeypatch, osv, "--strict")) == strict
