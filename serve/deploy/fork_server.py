"""The fork server of Ray's workers as its parent has it: its process, and where it listens.

Held by local_platform. What the process does is in worker_server.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

from serve.deploy.child_process import wait_or_kill

_SOCKET = "workers.sock"
_STOP_TIMEOUT_S = 10.0


class ForkServer:
    """A process that forks workers, from here to `close`; it ends with this process, too.

    `path` is that of the socket in `folder` where it listens, which it does at once.
    """

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / _SOCKET)
        end, self._end = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(self.path)
            listening.listen()
            numbers = (listening.fileno(), end)
            self._process = subprocess.Popen(
                # -P: what lies in the current folder is not to be imported.
                [sys.executable, "-P", "-m", "serve.deploy.worker_server", *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=numbers,
                start_new_session=True,
            )
        os.close(end)

    def close(self) -> None:
        """End the process; the workers that it has forked are Ray's to end."""
        os.close(self._end)
        wait_or_kill(self._process, _STOP_TIMEOUT_S)
