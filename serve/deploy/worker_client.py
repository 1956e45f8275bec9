"""Ask the fork server for one of Ray's workers; the raylet runs this where it starts a worker.

Run by its path and without the packages of a site (`python -I -S`), since every start waits for it:

    worker_client.py SOCKET setup_worker.py [FLAG...] default_worker.py ARGUMENT...

Where the server is not there, or cannot, this process becomes the worker, as Ray would have it.
"""

import json
import os
import socket
import sys

# What setup_worker.py is for, and what it takes out of the arguments.
_RUNTIME_ENV = "--serialized-runtime-env-context"
_LANGUAGE = "--language"
# Less than the 60 s that the raylet waits for a worker, more than the server needs for the first.
_PATIENCE_S = 45.0


def main(path: str, command: list[str]) -> None:
    """Return once the worker runs as a process of the server, or become it."""
    if not any(word.startswith(_RUNTIME_ENV) for word in command):
        command = [word for word in command[1:] if not word.startswith(_LANGUAGE)]
        has_flags = command[0].startswith("-")  # of the interpreter, which is another one's
        if not has_flags and _is_forked(path, command):
            return
    os.execv(sys.executable, [sys.executable, *command])


def _is_forked(path: str, command: list[str]) -> bool:
    """Have the server fork a worker; tell whether it has."""
    worker = {"command": command, "environment": dict(os.environ), "folder": os.getcwd()}
    message = json.dumps(worker).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.settimeout(_PATIENCE_S)
        try:
            server.connect(path)
            socket.send_fds(server, [message[:1]], [0, 1, 2])
            server.sendall(message[1:])
            server.shutdown(socket.SHUT_WR)
            return bool(server.recv(1))
        except OSError:
            return False


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
