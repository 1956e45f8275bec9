"""Reference models that are trained beside a running platform, in a process of their own.

Called by `strata up --train`. The process is `strata train`, at a low priority, since requests come
first.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from serve.cli.printing import err, out
from serve.deploy.child_process import wait_or_kill

_NICENESS = 10  # more than ours; above 19 it is 19
_STOP_TIMEOUT_S = 10.0
_SAID_EVERY_S = 10.0  # of progress, where it is no bar
# As printing.progress_bar writes it where it is no bar.
_PROGRESS = re.compile(r"(?P<title>training \S+) +(?P<percent>\d+)% +(?P<text>.*)")


class Training(AbstractContextManager["Training"]):
    """The training of reference models, from `start` to its end or `stop`; also a context manager.

    What it says is shown: a bar on a terminal, else a line now and then.
    """

    def __init__(self, names: Sequence[str], config: Path) -> None:
        self._command = [sys.executable, "-m", "serve", "train", *names]
        self._command += ["--if-missing", "--config", str(config)]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._is_stopped = False
        self._bar = _Bar() if out.is_terminal else None
        self._said = ("", 0.0)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, in a group of its own: Ctrl-C reaches it through `stop` alone."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
        )
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, os.nice(0) + _NICENESS)
        self._reader = threading.Thread(target=self._show, args=(self._process,), daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End it; what it has published stays, and a model that is half trained is left out."""
        self._is_stopped = True
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # as Ctrl-C, so that it removes its files
        wait_or_kill(self._process, _STOP_TIMEOUT_S)
        if self._reader is not None:
            self._reader.join(_STOP_TIMEOUT_S)

    def _show(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if not self._is_stopped:
                self._show_line(line.rstrip())
        if self._bar:
            self._bar.end()
        code = process.wait()
        if code and not self._is_stopped:
            err.print(
                f"[yellow]training has ended with {code}; the platform goes on without it, and "
                "the next start trains what is missing[/yellow]"
            )

    def _show_line(self, line: str) -> None:
        found = _PROGRESS.fullmatch(line)
        if found is None:
            out.print(line, markup=False)
        elif self._bar:
            self._bar.show(found["title"], int(found["percent"]), found["text"])
        else:
            self._say(found["title"], line)

    def _say(self, title: str, line: str) -> None:
        """Print a line of progress, unless one of the same model was printed just now."""
        last, when = self._said
        if title != last or time.monotonic() - when >= _SAID_EVERY_S:
            self._said = title, time.monotonic()
            err.print(line, markup=False)


class _Bar:
    """A bar at the end of the terminal, below what is printed meanwhile."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=out, transient=True, refresh_per_second=2)
        self._task: TaskID | None = None

    def show(self, title: str, percent: int, text: str) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(title, total=100, text=text)
        self._progress.update(self._task, description=title, completed=percent, text=text)

    def end(self) -> None:
        self._progress.stop()
