"""Start the edge's agent beside HAProxy, once for each configuration, and look after it.

The process that is started imports next to nothing and has a child that is the agent: what ends the
child (memory, a fault of ours) has it start another one.
"""

import fcntl
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from serve.edge.haproxy.transport import why_file
from serve.errors import ConfigError

_TIMEOUT_S = 30.0
_LOOK_AGAIN_S = 0.01
_START_AGAIN_S = 1.0


def lock_file(configuration: Path) -> Path:
    """Return the file that the agent of a configuration holds a lock on while it lives."""
    return configuration.with_name(f"{configuration.name}.agent.lock")


def log_file(configuration: Path) -> Path:
    """Return the file that the agent of a configuration writes what it has to say to."""
    return configuration.with_name(f"{configuration.name}.agent.log")


def require_agent(configuration: Path) -> None:
    """Return once a configuration's agent runs and has written the maps of who may.

    HAProxy starts with the maps as they are in their files. Raises ConfigError, with what the agent
    said, if there is none in time: without it nobody would hear of a key that is revoked.
    """
    ready = ready_file(configuration)
    deadline = time.monotonic() + _TIMEOUT_S
    start_at = 0.0
    while not (_is_held(lock_file(configuration)) and ready.exists()):
        if time.monotonic() > deadline:
            raise ConfigError(f"the edge's agent did not start: {_said(configuration)}")
        # Again where one that was ending still held the lock when the last one came.
        if not _is_held(lock_file(configuration)) and time.monotonic() > start_at:
            ready.unlink(missing_ok=True)
            _start(configuration)
            start_at = time.monotonic() + _START_AGAIN_S
        time.sleep(_LOOK_AGAIN_S)


def require_certificate(configuration: Path, certificate: Path) -> None:
    """Return once the agent has written a certificate for HAProxy.

    An agent that ran before there was to be one hears of it a moment later. Raises ConfigError,
    with what the agent says, if it finds none that can be used.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    why = why_file(certificate)
    while not certificate.exists():
        with suppress(FileNotFoundError):
            raise ConfigError(f"HAProxy has no certificate: {why.read_text(encoding='utf-8')}")
        if time.monotonic() > deadline:
            raise ConfigError(f"HAProxy has no certificate: {_said(configuration)}")
        time.sleep(_LOOK_AGAIN_S)


def ready_file(configuration: Path) -> Path:
    """Return the file that is there once the agent has written the maps for the first time."""
    return configuration.with_name(f"{configuration.name}.agent.ready")


def _start(configuration: Path) -> None:
    """Start the agent as nobody's child: HAProxy, which this process becomes, waits for none."""
    command = [sys.executable, "-m", "serve.edge.haproxy.agent_start", str(configuration)]
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            log = os.open(log_file(configuration), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            for stream, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
                os.dup2(file, stream)
            os.execv(command[0], command)
        os._exit(0)
    os.waitpid(child, 0)


def _is_held(lock: Path) -> bool:
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _said(configuration: Path) -> str:
    lines = log_file(configuration).read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing; is the machine overloaded?"


def main() -> None:
    """Be what looks after the agent of the configuration that the argument names."""
    configuration = Path(sys.argv[1])
    with lock_file(configuration).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another one was faster
        while not _is_done(configuration):
            time.sleep(_START_AGAIN_S)


def _is_done(configuration: Path) -> bool:
    """Have a child be the agent until it ends; tell whether there was no more for it to do."""
    child = os.fork()
    if child == 0:
        from serve.edge.haproxy.agent import run

        run(configuration)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0 or not configuration.exists()


if __name__ == "__main__":
    main()
