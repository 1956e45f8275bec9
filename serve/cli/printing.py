"""What commands print: tables, bars, progress; plain where the output is no terminal."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from serve.learn.recipes import Progress as Report
from serve.repository.progress import Listener, amount, tell

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

_SLOW_S = 1.0
_LEAST_WORDS = 24  # characters of a table's last column


def print_unserved(name: str, reason: str) -> None:
    """Say on stderr that a model is not served, for now."""
    err.print(f"{name} is not served, and tried again: {reason}", markup=False)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns; the last column is folded to what room is left.

    All of the others is printed, where that takes more than the terminal's width, too. Nothing in
    them is taken for markup.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(escape(column), overflow="fold", no_wrap=column is not columns[-1])
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(highlight=False)
    widths = [max(map(len, cells)) + 2 for cells in zip(columns, *rows, strict=True)]
    console.width = max(console.width, sum(widths[:-1]) + _LEAST_WORDS)
    console.print(table)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Hide stderr while TensorFlow is imported: its C++ part logs there whatever the log level."""
    from absl import logging as absl_logging

    stderr = os.dup(2)
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            # By its flag: TensorFlow raises the level while it saves, and sets it back to the flag.
            absl_logging.set_verbosity(absl_logging.ERROR)


@contextmanager
def progress_bar(title: str) -> Iterator[Report]:
    """Show progress on stderr: a bar, or a line per new text where stderr is no terminal."""
    if not err.is_terminal:
        yield _lines(title)
        return
    columns = (TextColumn(title), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=err) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda done, text: bar.update(task, completed=done, description=text)


@contextmanager
def slow_progress() -> Iterator[Listener]:
    """Show how far a long piece of work is, on a terminal; nothing of what takes under a second."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=err, transient=True)
    began, task = time.monotonic(), bar.add_task("", total=None)

    def heard(phase: str, done: int, total: int) -> None:
        part = f" {amount(done, total)}" if total else ""
        bar.update(task, description=f"{phase}{part}", completed=done, total=total or None)
        if err.is_terminal and time.monotonic() - began >= _SLOW_S:
            bar.start()

    try:
        yield heard
    finally:
        if bar.live.is_started:
            bar.stop()


def steps(title: str) -> Callable[[str], None]:
    """Return what says on stderr what is being done.

    It says so in the bar of `slow_progress` on a terminal, in a line each elsewhere.
    """
    if err.is_terminal:
        return tell
    return lambda text: err.print(f"{title}: {text}", markup=False)


def warn(text: str) -> None:
    """Say on stderr what did not work and hinders nothing."""
    err.print(f"warning: {text}", markup=False)


def _lines(title: str) -> Report:
    last = ""

    def report(done: float, text: str) -> None:
        nonlocal last
        if text != last:
            err.print(f"{title}  {done:4.0%}  {text}", soft_wrap=True)
        last = text

    return report


def elapsed() -> str:
    """Return how long ago this process was started, such as 2 min 5 s.

    What was run by the shell that became this process (exec) counts, too.
    """
    # proc(5): the name, in brackets, may have blanks; the start is in ticks since the machine's.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    began_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    minutes, seconds = divmod(max(0, round(up_s - began_s)), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def bytes_text(size: int) -> str:
    """Return a size in units of 1000, such as 3.1 MB."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
