"""An HTTP server on loopback, for what a test talks to in place of the real thing."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# A status, a document (bytes and text as they are, anything else as JSON) and, if any, headers.
Reply = tuple[int, Any] | tuple[int, Any, Mapping[str, str]]


@dataclass(frozen=True)
class Asked:
    """A request as the server got it; the case of a header's name does not matter."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def serving(respond: Callable[[Asked], Reply]) -> Iterator[int]:
    """Serve what `respond` returns for a request, on a free port; yield the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(respond)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _handler(respond: Callable[[Asked], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document, *more = respond(Asked(self.command, self.path, self.headers, body))
            data = _encoded(document)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            for name, value in more[0].items() if more else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_PATCH = do_GET

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _encoded(document: Any) -> bytes:
    if isinstance(document, bytes):
        return document
    return (document if isinstance(document, str) else json.dumps(document)).encode()
