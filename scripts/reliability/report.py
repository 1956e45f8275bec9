"""The table of faults, as text and as Markdown."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reliability.faults import Suffered
from reliability.figures import LATE_TIMES
from serve.errors import ServeError

COLUMNS = ("FAULT", "A SECOND", "SENT", "FAILED", "LATE", "SLOWEST", "RECOVERED IN", "")
_HEAD = "| fault | what is done | a second | sent | failed | late | slowest | recovered in |"


def row(each: Suffered) -> tuple[str, ...]:
    """Return the cells of a fault's row, under COLUMNS."""
    return (each.fault, *_figures(each), _verdict(each))


def markdown(told: Sequence[Suffered], share: float) -> str:
    """Return the table with a sentence of the load before it."""
    rows = [f"| `{each.fault}` | {each.what} | {' | '.join(_figures(each))} |" for each in told]
    load = f"The load is {share:.0%} of what the platform bore just before each fault."
    late = f"Late is beyond {LATE_TIMES:g} times the p99 of the ten seconds before it."
    return "\n".join([f"{load} {late}", "", _HEAD, "|---|---|---|---|---|---|---|---|", *rows])


def write_between(path: Path, mark: str, text: str) -> None:
    """Put text between the lines `<!-- mark -->` and `<!-- /mark -->` of a page.

    A page that is not there becomes the text with these lines. Raises ServeError where it has none.
    """
    first, last = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    page = path.read_text(encoding="utf-8") if path.exists() else f"{first}\n{last}\n"
    before, begins, rest = page.partition(first)
    _, ends, after = rest.partition(last)
    if not begins or not ends:
        raise ServeError(f"{path} has no lines '{first}' and '{last}' for the table to stand in")
    path.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


def _figures(each: Suffered) -> tuple[str, ...]:
    cost = each.cost
    return (
        f"{each.rate:.0f}",
        f"{cost.sent:,}",
        failed_text(cost.failed),
        f"{cost.late} (> {cost.late_s * 1e3:.0f} ms)",
        f"{cost.slowest_s:.2f} s",
        f"{cost.recovered_s:.0f} s" if cost.recovered_s else "at once",
    )


def failed_text(failed: Counter[str]) -> str:
    """Return how many failed, and how: `3 (2 status 503, 1 wrong answer)`; 0 for none."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in failed.most_common())
    return f"{failed.total()} ({kinds})" if kinds else "0"


def _verdict(each: Suffered) -> str:
    if each.problem:
        return each.problem
    if not each.promises_zero:
        return "not promised"
    return "holds" if each.holds else "BROKEN"
