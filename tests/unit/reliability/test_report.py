"""The table, and the page that it is written into."""

from collections import Counter

import pytest
from reliability.faults import Suffered
from reliability.figures import Cost
from reliability.report import COLUMNS, failed_text, markdown, row, write_between

from serve.errors import ServeError

COST = Cost(sent=12_345, failed=Counter(), late=7, late_s=0.0525, slowest_s=1.234, recovered_s=3.0)


def told(*, promised=True, problem="", **failed):
    cost = Cost(9, Counter(failed)) if failed else COST
    return Suffered("replica", "one is killed", promised, 321.4, cost, problem)


def test_a_row_has_its_figures_and_whether_the_promise_holds():
    cells = ("replica", "321", "12,345", "0", "7 (> 52 ms)", "1.23 s", "3 s", "holds")
    assert row(told()) == cells
    assert len(cells) == len(COLUMNS)
    assert row(told(refused=1))[-1] == "BROKEN"
    assert row(told(refused=1, promised=False))[-1] == "not promised"
    assert row(told(problem="not within 240 s"))[-1] == "not within 240 s"
    assert row(told(refused=1))[-2] == "at once"


def test_failures_are_told_by_kind_the_most_frequent_first():
    assert failed_text(Counter({"a": 1, "b": 2})) == "3 (2 b, 1 a)"
    assert failed_text(Counter()) == "0"


def test_a_table_of_markdown_has_a_row_for_each():
    lines = markdown([told(), told()], 0.5).splitlines()
    assert lines[0].startswith("The load is 50% of what the platform bore")
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert len(lines) == 6


def test_only_what_is_between_the_marks_is_written_anew(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- local -->\nold\n<!-- /local -->\nB\n<!-- cluster -->\n")
    write_between(page, "local", "new")
    assert page.read_text() == "# A\n<!-- local -->\nnew\n<!-- /local -->\nB\n<!-- cluster -->\n"
    with pytest.raises(ServeError, match="no lines '<!-- cluster -->' and '<!-- /cluster -->'"):
        write_between(page, "cluster", "new")


def test_a_page_that_is_not_there_is_begun(tmp_path):
    write_between(tmp_path / "new.md", "local", "text")
    assert (tmp_path / "new.md").read_text() == "<!-- local -->\ntext\n<!-- /local -->\n"
