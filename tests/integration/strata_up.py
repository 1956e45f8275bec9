"""`strata up` as a process of its own, for the tests that want one."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# A busy machine takes ten times as long as a quiet one. Tests that pass never wait for so long.
_READY_WITHIN_S = 1200
_ENDS_WITHIN_S = 300


@dataclass(frozen=True)
class Up:
    """The process, and where what it says goes."""

    pid: int
    file: Path

    def said(self) -> str:
        return self.file.read_text()


@contextmanager
def strata_up(
    config: Path, eventually: Callable[..., object], end: signal.Signals = signal.SIGTERM
) -> Iterator[Up]:
    """Run it until the end of the block, which begins once it says that it answers.

    SIGTERM ends it as Ctrl-C does, which Ray would have for itself.
    """
    said = config.with_name("said")
    with said.open("w") as out:
        command = [sys.executable, "-m", "serve", "up", "-c", config]
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def answers() -> bool:
        assert process.poll() is None, said.read_text()
        return "Ctrl-C stops it" in said.read_text()

    try:
        eventually(answers, _READY_WITHIN_S)
        yield Up(process.pid, said)
    finally:
        process.send_signal(end)
        code = process.wait(_ENDS_WITHIN_S)
    assert code == 0, said.read_text()
