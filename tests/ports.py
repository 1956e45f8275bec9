"""Ports for what tests start."""

import os
import socket
from itertools import count

# Below those that the system itself gives to whoever asks for any: between the choice of a port and
# its use, a process that a platform starts would get it.
_FIRST, _MANY = 11_000, 9_000
_turns = count(os.getpid() * 97 % _MANY)  # another beginning for each run


def free_port() -> int:
    """Return a port of 127.0.0.1 at which nobody listens, and none that was returned before."""
    while True:
        port = _FIRST + next(_turns) % _MANY
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
