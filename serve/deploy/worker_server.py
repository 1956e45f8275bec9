"""The fork server of Ray's workers: it has imported what each of them imports, and forks them.

Started by fork_server as a process of its own, beside Ray:

    python -m serve.deploy.worker_server LISTENING END

LISTENING is the socket that worker_client connects to, END the read end of a pipe that is closed
when the platform ends; both are file descriptors. Why, and what has to hold for it, is in
docs/decisions/0008-forked-workers.md.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_AS_IMPORTED = {
    "RAY_JOB_ID": "ffffffff",  # ray.JobID.nil(): a worker that any job may have
    # Libraries that start threads as they are imported.
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
# Of what Ray Serve imports, what takes longest and can be had before the first worker comes.
_OTHERS = ("fastapi", "numpy", "opentelemetry.sdk.trace", "pydantic", "requests", "uvicorn", "yaml")
_STANDARD_FILES = 3
_PIECE_BYTES = 1 << 16
_PATIENCE_S = 30.0
# As the raylet sets it for the processes that it starts: where memory ends, these go first.
_OOM_SCORE = "1000"


def main(listening: int, end: int) -> None:
    """Fork workers until the pipe `end` is closed; in a worker, return when that has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    _import_others()
    with socket.socket(fileno=listening) as server:
        worker = _serve(server, end)
    os.close(end)
    if worker is not None:
        _become(worker)


def _import_others() -> None:
    """Import what is not Ray, while that is being started; what fails here fails again later."""
    os.environ.update(_AS_IMPORTED)
    with suppress(Exception):
        for name in _OTHERS:
            import_module(name)


def _serve(server: socket.socket, end: int) -> Mapping[str, Any] | None:
    """Return what a worker is to be, in the worker; None once the pipe `end` is closed."""
    imports = Imports()
    while True:
        ready, _, _ = select.select([server.fileno(), end], [], [])
        if end in ready:
            return None
        client, _ = server.accept()
        client.settimeout(_PATIENCE_S)
        with client, suppress(OSError, ValueError):  # one that went away meanwhile
            worker = _forked_for(client, imports)
            if worker is not None:
                return worker


def _forked_for(client: socket.socket, imports: "Imports") -> Mapping[str, Any] | None:
    """Fork what a client wants to become, if it can be; return what that is, in the worker.

    Raises ValueError and OSError for a client that has not said it as a whole, or waits no more.
    """
    with ExitStack() as received:
        message, files, _, _ = socket.recv_fds(client, _PIECE_BYTES, _STANDARD_FILES)
        for file in files:
            received.callback(os.close, file)
        while piece := client.recv(_PIECE_BYTES):
            message += piece
        worker: dict[str, Any] = json.loads(message)
        if imports.can_fork(worker["environment"]):
            client.send(b"1")  # it would become the worker itself if it had not heard of this
            if os.fork() == 0:
                for number, file in enumerate(files):
                    os.dup2(file, number)
                return worker
    return None


class Imports:
    """What workers import, and whether a process that has it can be forked."""

    def __init__(self) -> None:
        self._problem: str | None = None  # None until it is imported
        self._told: set[str] = set()

    def can_fork(self, environment: Mapping[str, str]) -> bool:
        """Import it, the first time, with the environment of that worker; tell whether to fork.

        A process of several threads cannot be forked: what the others hold is held for ever in the
        new one. Nor can one that has drawn of Ray's random numbers: two workers would give their
        objects the same names. What is in the way is said once.
        """
        if self._problem is None:
            self._problem = _problem_of_import(environment)
        problem = self._problem
        if not problem and len(os.listdir("/proc/self/task")) > 1:
            problem = "what they import has started threads"
        if not problem and _drawn_in_fork() == _drawn_in_fork():
            problem = "what they import has drawn random numbers"
        if problem and problem not in self._told:
            self._told.add(problem)
            print(
                f"Ray's processes are started one by one, which is slow: {problem}", file=sys.stderr
            )
        return not problem


def _problem_of_import(environment: Mapping[str, str]) -> str:
    """Import what workers do; return why it cannot be, empty if it is."""
    # Ray reads some variables, and whose process it is, once, as it is imported.
    os.environ.clear()
    os.environ.update({**environment, **_AS_IMPORTED})
    try:
        _import()
    except Exception as err:  # whatever another package raises; the worker will say it, too
        return f"what they import fails with {type(err).__name__}: {err}"
    gc.collect()
    gc.freeze()
    return ""


def _import() -> None:
    """Import what replicas and Ray Serve's own actors are made of; draws none of Ray's numbers."""
    from ray import actor

    drawn = actor.ActorClassID  # for each class that is made an actor's
    actor.ActorClassID = _ClassId
    try:
        import serve.replica.deployments  # noqa: F401
    finally:
        actor.ActorClassID = drawn


class _ClassId:
    """Ray's ActorClassID, of the system's random numbers."""

    @staticmethod
    def from_random() -> Any:
        from ray import ActorClassID

        return ActorClassID(os.urandom(ActorClassID.size()))


def _drawn_in_fork() -> bytes:
    """Return the first random number that a worker would draw of Ray's."""
    from ray import WorkerID

    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, WorkerID.from_random().binary())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        return pipe.read()


def _become(worker: Mapping[str, Any]) -> None:
    """Run a program of Python in this process, as if its command had started it."""
    import numpy as np

    os.setpgid(0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    os.environ.clear()
    os.environ.update(worker["environment"])
    os.chdir(worker["folder"])
    np.random.seed()  # Python's own is sown anew by the fork
    program, *_ = sys.argv = worker["command"]
    sys.path.insert(0, str(Path(program).parent))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
