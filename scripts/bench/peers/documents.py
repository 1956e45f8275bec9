"""What a run leaves in the README and in docs/performance.md: tables and a picture."""

from pathlib import Path

from bench.peers.figures import Figures
from bench.peers.picture import draw
from bench.peers.tables import engine_line, tables_of, throughput
from serve.errors import ServeError

_ROOT = Path(__file__).resolve().parents[3]
_PICTURE = Path("docs/images/peers.png")
_MARK = "scripts/bench/run peers --write-docs"


def write_beside(figures: Figures, output: Path) -> None:
    """Write tables as Markdown and the picture beside the file of the figures."""
    output.with_suffix(".md").write_text(_page(figures), encoding="utf-8")
    draw(figures, output.with_suffix(".png"))


def write(figures: Figures, root: Path = _ROOT) -> None:
    """Write tables between their comments, and the picture. Raises ServeError without comments."""
    _put(root / "README.md", throughput(figures, echoes=False).markdown())
    _put(root / "docs/performance.md", _page(figures))
    draw(figures, root / _PICTURE)


def _page(figures: Figures) -> str:
    parts = [engine_line(figures) + "\n", *(table.markdown() for table in tables_of(figures))]
    return "\n".join(parts)


def _put(page: Path, text: str) -> None:
    begin, end = f"<!-- {_MARK} -->\n", "<!-- end -->\n"
    head, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ServeError(f"{page} has no lines {begin.strip()} and {end.strip()} to write between")
    page.write_text(f"{head}{begin}{text}{end}{tail}", encoding="utf-8")
