"""An object store on this machine that speaks S3 and can be made to hang."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from reliability.stopped import stand_still
from reliability.waiting import until

_BUCKET = "models"
_SERVE = "import sys; from moto.server import main; main(sys.argv[1:])"
_KEY = "chaos"


class Store:
    """A process that is an object store; what it holds goes with it."""

    root = f"s3://{_BUCKET}"

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self._process, self._port = process, port

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which every client in Python finds it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def upload(self, folder: Path) -> None:
        """Put the models of a folder into the bucket."""
        files = self.files()
        files.mkdir(_BUCKET)
        files.put(f"{folder}/", _BUCKET, recursive=True)

    def files(self) -> "fsspec.AbstractFileSystem":
        """Return what is in it as a file system."""
        url = self.environment["AWS_ENDPOINT_URL"]
        return fsspec.filesystem(
            "s3", key=_KEY, secret=_KEY, endpoint_url=url, skip_instance_cache=True
        )

    def hang(self) -> None:
        """Take connections and answer none, until `go_on`."""
        stand_still(self._process)

    def go_on(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._process.send_signal(signal.SIGCONT)

    def takes_connections(self) -> bool:
        """Tell whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


@contextmanager
def running_store() -> Iterator[Store]:
    """Start a store with an empty bucket, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-c", _SERVE, "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            store = Store(process, port)
            until("the object store listens", store.takes_connections)
            yield store
        finally:
            process.kill()
