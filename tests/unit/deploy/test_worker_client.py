"""The client has a worker forked, or becomes it; test_worker_server has the other side."""

import json
import os
import socket
import subprocess
import sys
from threading import Thread

import pytest

from serve.deploy import worker_client
from tests.unit.deploy.fakes import client_that_waits

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

    def __init__(self, path, answer, *, is_asked=True):
        self.message, self.answer, self._is_asked = b"", answer, is_asked
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = Thread(target=self._serve, daemon=True)

    def __enter__(self):
        if self._is_asked:
            self._thread.start()
        return self

    def __exit__(self, *_):
        if self._is_asked:
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


def test_flags_of_the_interpreter_are_for_one_that_is_started(tmp_path, programs):
    with Answering(tmp_path / "s", b"1", is_asked=False):
        printed = _client(tmp_path / "s", programs[0], "-s", programs[1], "--language=PYTHON")
    assert printed == "default_worker\n"


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path, programs):
    client = client_that_waits(0.1, tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        command = [sys.executable, "-I", "-S", client, tmp_path / "s", *programs]
        with (tmp_path / "printed").open("w") as printed:  # a pipe would be open in the socket, too
            subprocess.run(command, stdout=printed, check=True, timeout=60)
    assert (tmp_path / "printed").read_text() == "default_worker\n"
