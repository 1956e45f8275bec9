"""HAProxy in a process of its own, started as Ray starts it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from socket import create_connection, socket
from ssl import SSLContext
from types import MappingProxyType, SimpleNamespace
from typing import Any, Self

from ray.serve._private.haproxy import BackendConfig
from ray.serve.config import HTTPOptions

from serve.config.schema import Http
from serve.deploy.environment import ray_environment
from serve.edge.haproxy.access import Maps
from serve.edge.haproxy.admin_socket import AdminSocket
from serve.edge.haproxy.configuration import with_edge
from serve.edge.haproxy.settings import EdgeSettings
from tests.ports import free_port
from tests.unit.edge.haproxy.rays import write

_SETTINGS = ray_environment(Http(), open_files=20_000)
_LAUNCH = [sys.executable, "-c", "from serve.edge.haproxy.launcher import main; main()"]


EDGE_SECRET = "only-the-edge-knows"


class Edge:
    """HAProxy in front of these backends; use as a context.

    `access` are the edge's settings, `environment` more variables of the launcher. `context` is
    what it is asked with where it speaks HTTPS.
    """

    def __init__(
        self,
        folder: Path,
        *backends: BackendConfig,
        idle_s: int = 600,
        access: EdgeSettings | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        context: SSLContext | None = None,
        **settings: Any,
    ):
        self._environment = {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "STRATA_EDGE_SECRET": EDGE_SECRET,
            **environment,
        }
        if access is not None:
            self.settings = folder / "settings.json"
            self.settings.write_text(access.to_json())
            self._environment["STRATA_EDGE_SETTINGS"] = str(self.settings)
        self.context = context
        self.port, self.stats_port, self.metrics_port = free_port(), free_port(), free_port()
        self._folder, self._idle_s = folder, idle_s
        self._processes: list[subprocess.Popen[bytes]] = []
        self.path = write(
            folder,
            *backends,
            http_options=HTTPOptions(host="127.0.0.1", port=self.port, keep_alive_timeout_s=90),
            stats_port=self.stats_port,
            metrics_port=self.metrics_port,
            bufsize=81920,
            retry_on=_SETTINGS["RAY_SERVE_HAPROXY_RETRY_ON"],
            retries=int(_SETTINGS["RAY_SERVE_HAPROXY_RETRIES"]),
            observe_error_limit=int(_SETTINGS["RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT"]),
            **settings,
        )

    def hurry(self) -> Self:
        """Give a request five seconds to be there, so that a test need not wait for twenty."""
        text = with_edge(self.path.read_text(), Maps.beside(self.path))
        assert "timeout http-request 20s" in text
        self.path.write_text(text.replace("http-request 20s", "http-request 5s"))
        return self

    def __enter__(self) -> Self:
        self._start()
        return self

    def _start(self, *arguments: str) -> None:
        settings = {
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(self._idle_s),
            "STRATA_HAPROXY_METRICS_HOST": "127.0.0.1",
            **self._environment,
        }
        command = [*_LAUNCH, "-db", "-f", str(self.path), *arguments]
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log, env={**os.environ, **settings})
        self._processes.append(process)

    def reload(self) -> subprocess.Popen[bytes]:
        """Start another HAProxy that takes over, as Ray does; return the one before."""
        before = self.process
        self._start("-sf", str(before.pid))
        return before

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that listens, or is about to."""
        return self._processes[-1]

    def __exit__(self, *_: object) -> None:
        self.end()
        self.path.unlink(missing_ok=True)  # without it the agent ends, too

    def end(self) -> None:
        """End HAProxy; its agent stays for a minute, for the next one."""
        for process in self._processes:
            process.kill()
            process.wait()

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError((self._folder / "log").read_text())
        with suppress(OSError):
            return self.ask("/-/healthz").status > 0
        return False

    def metrics_text(self) -> str:
        """Return what the edge's agent counts, as Prometheus has it."""
        with create_connection(("127.0.0.1", self.metrics_port), timeout=60) as connection:
            connection.sendall(b"GET /metrics/access HTTP/1.0\r\n\r\n")
            return str(response(connection).body.decode())

    def has_peers(self, number: int) -> bool:
        """Tell whether so many other HAProxys hand on what they count."""
        with AdminSocket.of(self.path.read_text()) as socket:
            return socket.ask("show peers").count("last_status=ESTA") >= number

    def connect(self) -> socket:
        plain = create_connection(("127.0.0.1", self.port), timeout=60)
        if self.context is None:
            return plain
        return self.context.wrap_socket(plain, server_hostname="localhost")

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Any:
        """Return the response to a request whose path goes out as it is written here."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            named["Content-Length"] = str(len(body))
        head = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in named.items())]
        with self.connect() as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
            return response(connection, method)


def response(connection: socket, method: str = "GET") -> Any:
    """Return the status, headers (lower case) and body that come; status 0 where none does."""
    with HTTPResponse(connection, method=method) as reply:
        try:
            reply.begin()
        except (HTTPException, ConnectionError):
            return SimpleNamespace(status=0, headers={}, body=b"")
        headers = {name.lower(): value for name, value in reply.getheaders()}
        return SimpleNamespace(status=reply.status, headers=headers, body=reply.read())
