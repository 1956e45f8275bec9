"""Workers that are forked are as if their command had started them, and share nothing by chance."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serve.deploy.fork_server import ForkServer
from tests.unit.deploy.fakes import client_that_waits

# What a worker is, told by itself.
_WORKER = """
import json, os, random, signal, sys
from ray import ActorID, WorkerID
import numpy as np
found = {
    "arguments": sys.argv,
    "searched_first": sys.path[0],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "group": os.getpgid(0),
    "pid": os.getpid(),
    "parent": os.getppid(),
    "oom_score": int(open("/proc/self/oom_score_adj").read()),
    "open": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "is_interrupted": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "waits": signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL,
    "drawn": [random.random(), float(np.random.random()), WorkerID.from_random().hex()],
    "imported": "serve.replica.deployments" in sys.modules,
    "name": __name__,
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ForkServer(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def client(tmp_path):
    """One that waits for all that the server imports, which a busy machine takes long for."""
    return client_that_waits(600.0, tmp_path)


@pytest.fixture
def worker(server, client, tmp_path):
    """Return a function that has a worker forked and returns what it tells of itself."""
    program = tmp_path / "default_worker.py"
    program.write_text(_WORKER)

    def forked(*arguments, **environment):
        command = [sys.executable, "-I", "-S", client, server.path]
        done = subprocess.run(
            [*command, "setup_worker.py", str(program), *arguments, "--language=PYTHON"],
            stdout=subprocess.PIPE,  # until the worker has closed it, too
            text=True,
            check=True,
            timeout=600,
            cwd=tmp_path,
            env={**os.environ, **environment},
        )
        return json.loads(done.stdout)

    forked.program = program
    return forked


def test_a_worker_is_as_its_command_would_have_started_it(server, worker):
    found = worker("--node-id=7", RAY_JOB_ID="02000000", OF_THIS="one")
    assert found["parent"] == server._process.pid, "it was not forked"
    assert found["imported"]
    assert found["arguments"] == [str(worker.program), "--node-id=7"]
    assert (found["name"], found["folder"]) == ("__main__", str(worker.program.parent))
    assert found["searched_first"] == str(worker.program.parent)
    assert found["environment"]["OF_THIS"] == "one"
    assert found["environment"]["RAY_JOB_ID"] == "02000000"
    assert "OPENBLAS_NUM_THREADS" not in found["environment"].keys() - os.environ.keys()
    assert found["group"] == found["pid"]
    assert found["oom_score"] == 1000
    assert found["is_interrupted"]
    assert found["waits"]
    assert found["open"] == [0, 1, 2], "it holds files of the server's"


def test_no_two_workers_draw_the_same_random_numbers(worker):
    one, other = worker(), worker()
    assert one["parent"] == other["parent"] != os.getpid()
    for drawn, drawn_there in zip(one["drawn"], other["drawn"], strict=True):
        assert drawn != drawn_there


@pytest.mark.parametrize("message", [b"", b"{", b'{"command": ["default_wor'])
def test_a_client_that_goes_away_meanwhile_gets_nothing_and_harms_nobody(server, worker, message):
    folder = Path(f"/proc/{server._process.pid}/fd")
    before = len(list(folder.iterdir()))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.path)
        if message:
            socket.send_fds(client, [message], [0, 1, 2])
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert worker()["parent"] == server._process.pid
    assert len(list(folder.iterdir())) == before, "the files of who went away stay open"


def _tried(program, folder=None):
    """Run a program that asks whether it can be forked; return what it printed and said."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    if folder is not None:
        before = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
    done = subprocess.run(
        [sys.executable, "-c", f"{_TRY}{program}\nos._exit(0)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    return done.stdout, done.stderr


_TRY = """
import os, sys, threading, time
from serve.deploy.worker_server import Imports
environment, imports = dict(os.environ), Imports()
def tried():
    print(imports.can_fork(environment), end=" ", flush=True)
"""


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("threading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "started threads"),
        ("import ray; ray.WorkerID.from_random()", "drawn random numbers"),
    ],
)
def test_where_a_fork_would_not_be_right_there_is_none_and_it_is_said_once(does, reason):
    printed, said = _tried(f"tried()\n{does}\ntried(); tried()")
    assert printed == "True False False "
    assert said.count(f"what they import has {reason}") == 1


@pytest.mark.parametrize("error", ["ValueError", "ImportError"])
def test_what_cannot_be_imported_is_said_once_and_nothing_is_forked_of_a_half(tmp_path, error):
    (tmp_path / "fastapi.py").write_text(f"raise {error}('not this one')")
    printed, said = _tried("tried(); tried()", tmp_path)
    assert printed == "False False "
    assert said.count(f"what they import fails with {error}: not this one") == 1


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path, client, monkeypatch):
    (tmp_path / "queue.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    server = ForkServer(tmp_path)
    try:
        program = tmp_path / "elsewhere" / "default_worker.py"
        program.parent.mkdir()
        program.write_text("import os, queue; print(os.getppid(), queue.__file__)")
        command = [sys.executable, "-I", "-S", client, server.path]
        done = subprocess.run(
            [*command, "setup_worker.py", str(program)], stdout=subprocess.PIPE, check=True
        )
        parent, imported = done.stdout.split()
        assert int(parent) == server._process.pid
        assert not imported.startswith(bytes(tmp_path))
    finally:
        server.close()
