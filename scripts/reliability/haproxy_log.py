"""What HAProxy says of requests that fail: one line each, which nobody else keeps here."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Ray Serve writes it into HAProxy's configuration as where to log to, over UDP.
TARGET_VARIABLE = "RAY_SERVE_HAPROXY_LOG_TARGET"
_LONGEST = 65536
_POLL_S = 0.5


@contextmanager
def written_to(path: Path) -> Iterator[str]:
    """Append what comes over UDP to a file, a line each; yield the address to send it to."""
    is_over = threading.Event()
    path.touch()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(_POLL_S)
        thread = threading.Thread(target=_write, args=(listening, path, is_over), daemon=True)
        thread.start()
        try:
            yield "{}:{}".format(*listening.getsockname())
        finally:
            is_over.set()
            thread.join()


def _write(listening: socket.socket, path: Path, is_over: threading.Event) -> None:
    with path.open("ab", buffering=0) as file:
        while not is_over.is_set():
            try:
                file.write(listening.recv(_LONGEST).rstrip(b"\n\0") + b"\n")
            except TimeoutError:
                continue
