"""A finding names everything that it concerns, and the page explains each kind."""

import re
from pathlib import Path

import pytest

from serve.cluster.findings import Finding, Kind, finding, merged
from tests.unit.cluster.findings import only
from tests.unit.cluster.releases import captured

_OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
_PAGE = _OPERATIONS.split("\n## Why is it not ready?\n")[1].split("\n## ")[0]


def test_pods_with_the_same_problem_share_a_finding():
    assert len(only(captured("image-pull")).subjects) == 2


def test_what_is_found_of_a_subject_twice_names_it_once():
    first, second = (finding(Kind.CRASH, pod, "it ended", "read its log") for pod in ("a", "b"))
    assert merged([first, second, first]) == [
        Finding(Kind.CRASH, ("a", "b"), "it ended", "read its log")
    ]


def test_different_problems_of_a_subject_stay_apart_in_their_order():
    found = [
        finding(Kind.IMAGE_PULL, "pod", "the image a cannot be pulled", "check it"),
        finding(Kind.IMAGE_PULL, "pod", "the image b cannot be pulled", "check it"),
        finding(Kind.CRASH, "pod", "the image b cannot be pulled", "check it"),
    ]
    assert merged(found) == found


@pytest.mark.parametrize("kind", Kind)
def test_every_finding_has_a_row_in_the_page(kind):
    assert f"| `{kind}` |" in _PAGE


def test_the_page_has_no_row_of_a_finding_that_is_gone():
    rows = re.findall(r"^\| `([a-z-]+)` \|", _PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(Kind)


def test_remedies_that_name_what_they_are_of_are_all_kept_up_to_a_few():
    pods = [f"pod-{index}" for index in range(5)]
    found = merged(finding(Kind.CRASH, pod, "it ended", f"kubectl logs {pod}") for pod in pods)
    (one,) = found
    assert one.subjects == tuple(pods)
    logs = "kubectl logs pod-0; kubectl logs pod-1; kubectl logs pod-2"
    assert one.remedy == f"{logs}; and 2 more like it"
