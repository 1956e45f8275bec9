"""A training beside the platform: what is shown of it, and how it ends."""

import os
import sys

import pytest
from rich.console import Console

from serve.cli import training
from serve.cli.training import Training

_HELLO = """
import os, signal, sys, time
print("training digits   10%  epoch 1/2", flush=True)
print("training digits   50%  epoch 2/2", flush=True)
print("published digits version 1", "at", os.nice(0), flush=True)
"""
# An interrupt ends it whenever it comes, before it waits too.
_INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
"""
_ENDLESS = """
while True:
    time.sleep(0.05)
"""
_DEAF = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function that starts a training which is this program."""

    def start(program):
        started = Training(["digits"], tmp_path / "strata.yaml")
        started._command = [sys.executable, "-c", program]
        started.start()
        return started

    return start


def test_the_training_is_strata_train_of_what_is_missing(tmp_path):
    command = Training(["digits", "language"], tmp_path / "strata.yaml")._command
    assert command[1:] == [
        *("-m", "serve", "train", "digits", "language", "--if-missing"),
        *("--config", str(tmp_path / "strata.yaml")),
    ]


def test_what_it_says_is_shown_and_of_its_progress_a_line_now_and_then(run, capsys):
    started = run(_HELLO)
    started._reader.join(30)
    printed = capsys.readouterr()
    niceness = min(os.nice(0) + 10, 19)
    assert printed.out == f"published digits version 1 at {niceness}\n", "requests go first"
    assert printed.err.splitlines() == ["training digits   10%  epoch 1/2"]
    started.stop()


def test_on_a_terminal_progress_is_a_bar_below_what_is_said(run, monkeypatch, tmp_path):
    path = tmp_path / "terminal"
    with path.open("w") as file:
        console = Console(file=file, force_terminal=True, width=100, highlight=False)
        monkeypatch.setattr(training, "out", console)
        started = run(_HELLO)
        started._reader.join(30)
        started.stop()
    shown = path.read_text()
    assert "training digits" in shown
    assert "epoch 2/2" in shown
    assert "published digits version 1" in shown


def test_to_stop_it_is_as_ctrl_c_and_ends_it_without_a_word(run, capsys, eventually):
    started = run(_INTERRUPTIBLE + _HELLO + _ENDLESS)
    eventually(lambda: "published" in capsys.readouterr().out)
    started.stop()
    assert started._process.returncode == 130
    assert capsys.readouterr().err == ""


def test_one_that_does_not_listen_is_killed(run, monkeypatch, capsys, eventually):
    monkeypatch.setattr(training, "_STOP_TIMEOUT_S", 0.2)
    with run("import signal" + _DEAF) as started:
        eventually(lambda: "deaf" in capsys.readouterr().out)
    assert started._process.returncode == -9


def test_one_that_fails_is_told_with_what_it_said(run, capsys):
    started = run("print('no room'); raise SystemExit(1)")
    started._reader.join(30)
    printed = capsys.readouterr()
    assert printed.out == "no room\n"
    assert "training has ended with 1; the platform goes on without it" in " ".join(
        printed.err.split()
    )


def test_to_stop_what_was_not_started_does_nothing(tmp_path):
    with Training(["digits"], tmp_path / "strata.yaml"):
        pass
