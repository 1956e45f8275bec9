import pytest
from bench.peers.documents import write
from bench.peers.tables import tables_of, throughput

from serve.errors import ServeError

_PAGE = """before
<!-- scripts/bench/run peers --write-docs -->
old
<!-- end -->
after
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs" / "images").mkdir(parents=True)
    for page in ("README.md", "docs/performance.md"):
        (tmp_path / page).write_text(_PAGE)
    return tmp_path


def test_tables_stand_between_their_comments_and_nothing_else_changes(figures, root):
    write(figures, root)
    readme = (root / "README.md").read_text()
    head, _, rest = _PAGE.partition("old\n")
    assert readme == head + throughput(figures, echoes=False).markdown() + rest
    page = (root / "docs/performance.md").read_text()
    assert all(table.markdown() in page for table in tables_of(figures))
    assert page.startswith("before\n")
    assert page.endswith("<!-- end -->\nafter\n")


def test_writing_again_replaces_what_was_written(figures, root):
    write(figures, root)
    once = (root / "docs/performance.md").read_text()
    write(figures, root)
    assert (root / "docs/performance.md").read_text() == once


def test_a_picture_is_drawn(figures, root):
    write(figures, root)
    assert (root / "docs/images/peers.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_without_the_comments_is_told_and_left_alone(figures, root):
    (root / "README.md").write_text("nothing here\n")
    with pytest.raises(ServeError, match=r"README\.md has no lines"):
        write(figures, root)
    assert (root / "README.md").read_text() == "nothing here\n"
