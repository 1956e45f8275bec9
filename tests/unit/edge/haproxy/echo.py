"""A replica that tells what reached it, or answers what a header of the request says."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server
from typing import Any


class Echo(ThreadingHTTPServer):
    """Answers on `server_port` under a name.

    `seen` counts requests that are no health checks, `checked` the checks that were answered.
    """

    daemon_threads = True

    def __init__(self, name: str, checks_take_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.seen, self.checked = name, 0, 0
        self.checks_take_s = checks_take_s
        self.gate = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def hold(self) -> threading.Event:
        """Have requests with the header X-Waits wait for the event that is returned."""
        self.gate = threading.Event()
        return self.gate

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that hang up; HAProxy's health checks do."""


class Dying:
    """A healthy replica that ends so many connections which bring a request, and then is gone."""

    def __init__(self, breaks_off: int) -> None:
        self._listening = create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.broke_off, self._breaks_off = 0, breaks_off
        threading.Thread(target=self._die, daemon=True).start()

    def _die(self) -> None:
        with self._listening:
            while self.broke_off < self._breaks_off:
                connection, _ = self._listening.accept()
                with connection:
                    if b"/-/healthz" in connection.recv(65536):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    else:
                        self.broke_off += 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Echo

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        if self.path == "/-/healthz":
            time.sleep(self.server.checks_take_s)
            self.server.checked += 1
        else:
            self.server.seen += 1
        size = int(self.headers.get("content-length", 0))
        if self.headers.get("transfer-encoding") == "chunked":
            size = len(self._chunks())
        else:
            self.rfile.read(size)
        if "x-waits" in self.headers:
            self.server.gate.wait(600)
        time.sleep(float(self.headers.get("x-takes-s", 0)))
        if "x-dies" in self.headers:
            self.close_connection = True
            return
        status = int(self.headers.get("x-status", 200))
        kind = self.headers.get("x-type", "application/json")
        said = self.headers.get("x-says") or json.dumps(
            {
                "name": self.server.name,
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "bytes": size,
            }
        )
        body = said.encode("latin-1")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if "x-pool-is" in self.headers:
            self.send_header("X-Strata-Pool", self.headers["x-pool-is"])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def log_message(self, *_: object) -> None:
        pass
