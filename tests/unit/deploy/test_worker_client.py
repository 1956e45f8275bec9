"""The client has a worker forked, or becomes it; test_worker_server has the other side."""

import json
import os
import socket
import subprocess
import sys
from threading import Thread

import pytest

from serve.deploy import worker_client

_SAYS = "import sys; print('{name}', *sys.argv[1:])"


@pytest.fixture
def programs(tmp_path):
    """Two programs that print who they are and their arguments."""
    paths = [tmp_path / "setup_worker.py", tmp_path / "default_worker.py"]
    for path in paths:
        path.write_text(_SAYS.format(name=path.stem))
    return [str(path) for path in paths]


def _client(path, *command, **options):
    """Run the client as the raylet does; return what it, or what it became, has printed."""
    return subprocess.run(
        [sys.executable, "-I", "-S", worker_client.__file__, str(path), *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        **options,
    ).stdout


class Answering:
    """A server that takes one client, and answers with these bytes."""

    def __init__(self, path, answer):
        self.message, self.answer = b"", answer
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join(30)
        self._listening.close()

    def _serve(self):
        client, _ = self._listening.accept()
        with client:
            self.message, files, _, _ = socket.recv_fds(client, 4096, 3)
            while piece := client.recv(4096):
                self.message += piece
            os.write(files[1], b"said by the worker\n")
            for file in files:
                os.close(file)
            client.sendall(self.answer)


def test_the_server_gets_command_environment_folder_and_standard_files(tmp_path, programs):
    long = "x" * 100_000
    environment = {"NAME": long, "BYTES": os.fsdecode(b"\xff")}
    with Answering(tmp_path / "s", b"1") as server:
        command = (*programs, "--node-id=7", "--language=PYTHON")
        printed = _client(tmp_path / "s", *command, cwd=tmp_path, env=environment)
    assert printed == "said by the worker\n"
    worker = json.loads(server.message)
    assert worker["command"] == [programs[1], "--node-id=7"]
    assert worker["folder"] == str(tmp_path)
    assert {name: worker["environment"][name] for name in environment} == environment


def test_a_server_that_does_not_fork_leaves_the_client_to_become_the_worker(tmp_path, programs):
    command = (*programs, "--node-id=7", "--language=PYTHON")
    with Answering(tmp_path / "s", b""):
        assert _client(tmp_path / "s", *command).endswith("default_worker --node-id=7\n")


def test_without_a_server_the_client_becomes_the_worker(tmp_path, programs):
    command = (*programs, "--node-id=7", "--language=PYTHON")
    assert _client(tmp_path / "none", *command) == "default_worker --node-id=7\n"


def test_what_has_to_be_set_up_first_is_left_to_ray(tmp_path, programs):
    more = ("--node-id=7", "--serialized-runtime-env-context={}", "--language=PYTHON")
    printed = _client(tmp_path / "none", *programs, *more)
    assert printed == f"setup_worker {programs[1]} {' '.join(more)}\n"
