"""What commands print is plain where the output is no terminal."""

import io
import os
from contextlib import suppress

import pytest
from rich.console import Console

from serve.cli import printing
from serve.cli.printing import (
    bytes_text,
    elapsed,
    print_table,
    progress_bar,
    quiet_tensorflow,
    slow_progress,
)


def test_a_table_folds_its_last_column_rather_than_run_off_the_screen(capsys):
    print_table(("MODEL", "STATE"), [("digits", "word " * 40), ("parity", "ok")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["MODEL", "STATE"]
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).count("word") == 40
    assert lines[-1].split() == ["parity", "ok"]


def test_a_table_with_many_columns_is_printed_whole_however_narrow_the_terminal(capsys):
    cells = [f"{'cell' * 4}{column}" for column in range(9)]
    print_table(cells, [cells])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:8] == lines[2].split()[:8] == cells[:8]


def test_progress_is_a_line_whenever_it_says_something_new(capsys):
    with progress_bar("training digits") as progress:
        for done, text in ((0.1, "epoch 1"), (0.2, "epoch 1"), (1.0, "epoch 2")):
            progress(done, text)
    printed = capsys.readouterr()
    assert printed.out == "", "it is no result"
    assert [line.split() for line in printed.err.splitlines()] == [
        ["training", "digits", "10%", "epoch", "1"],
        ["training", "digits", "100%", "epoch", "2"],
    ]


class _Clock:
    """The time that a bar sees: a second later each time that it looks."""

    def __init__(self, step_s):
        self._now, self._step_s = 0.0, step_s

    def monotonic(self):
        self._now += self._step_s
        return self._now


@pytest.mark.parametrize(
    ("is_terminal", "step_s", "is_shown"),
    [(True, 1.0, True), (True, 0.1, False), (False, 1.0, False)],
)
def test_only_what_takes_longer_than_a_second_shows_a_bar_and_only_on_a_terminal(
    is_terminal, step_s, is_shown, monkeypatch
):
    file = io.StringIO()
    monkeypatch.setattr(printing, "err", Console(file=file, force_terminal=is_terminal, width=80))
    monkeypatch.setattr(printing, "time", _Clock(step_s))
    with slow_progress() as heard:
        heard("copying", 1_200_000_000, 2_100_000_000)
        heard("trying", 0, 0)
    assert ("copying 1.2 of 2.1 GB" in file.getvalue()) == is_shown
    assert ("trying" in file.getvalue()) == is_shown


def test_only_what_is_written_while_tensorflow_is_imported_is_hidden(capfd):
    with suppress(ImportError), quiet_tensorflow():
        os.write(2, b"could not find cuda drivers\n")
        raise ImportError("no tensorflow")
    os.write(2, b"published\n")
    assert capfd.readouterr().err == "published\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (3_140_000, "3.1 MB"),
        (5 * 10**9, "5.0 GB"),
        (2 * 10**12, "2000.0 GB"),
    ],
)
def test_a_size_is_in_units_of_a_thousand(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("ticks", "text"), [(0, "0 s"), (5940, "59 s"), (6000, "1 min 0 s"), (12_510, "2 min 5 s")]
)
def test_the_time_since_the_start_is_in_minutes_and_seconds(monkeypatch, ticks, text):
    stat = f"1 (a ) b) S {'0 ' * 18}{100_000 - ticks} 0"
    files = {"/proc/self/stat": stat, "/proc/uptime": "1000.0 1"}
    monkeypatch.setattr("serve.cli.printing.Path", lambda name: Text(files[name]))
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    assert elapsed() == text


class Text(str):
    """A path of a file with this text."""

    def read_text(self):
        return str(self)


def test_brackets_in_a_table_are_no_markup(capsys):
    print_table(("A", "B[1]"), [("[red]x[/red]", "[/]")])
    printed = capsys.readouterr().out
    assert "[red]x[/red]" in printed
    assert "[/]" in printed
    assert "B[1]" in printed
