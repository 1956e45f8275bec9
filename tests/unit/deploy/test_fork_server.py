"""The process that forks workers ends with who started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from serve.deploy import fork_server
from serve.deploy.fork_server import ForkServer
from tests.processes import has_ended

_PARENT = """
import sys, time
from pathlib import Path
from serve.deploy.fork_server import ForkServer
server = ForkServer(Path(sys.argv[1]))
print(server._process.pid, flush=True)
time.sleep(600)
"""


def test_it_listens_at_once_and_ends_when_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(fork_server, "_STOP_TIMEOUT_S", 300.0)  # it ends once it has imported all
    server = ForkServer(tmp_path)
    assert Path(server.path).is_socket()
    server.close()
    assert server._process.returncode == 0


def test_it_ends_when_its_parent_is_killed(tmp_path, eventually):
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        server = int(parent.stdout.readline())
        os.kill(server, 0)
        parent.send_signal(signal.SIGKILL)
    eventually(lambda: has_ended(server))
