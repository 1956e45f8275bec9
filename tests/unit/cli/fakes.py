"""What the commands talk to, on loopback, where the real thing would need a platform."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(handler):
    """Serve with a request handler on a free port; yield the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class Site:
    """JSON by method and path, such as "GET /v2/models/digits"; remembers what it was sent.

    A list is a page that changes: each request takes the next of it, and the last one stays.
    """

    def __init__(self):
        self.pages = {}
        self.received = []
        self.statuses = {}

    def respond(self, method, path, body):
        """Return status and tree of a page, 404 where there is none."""
        key = f"{method} {path}"
        self.received.append((key, json.loads(body) if body else None))
        page = self.pages.get(key, {"error": f"no page {key}"})
        if isinstance(page, list):
            page = page.pop(0) if len(page) > 1 else page[0]
        return self.statuses.get(key, 200 if key in self.pages else 404), page

    def sent_to(self, key):
        """Return the bodies that were sent to a page."""
        return [body for received, body in self.received if received == key]

    def handler(self):
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, tree = site.respond(self.command, self.path, body)
                data = json.dumps(tree).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_PUT = do_GET

            def log_message(self, *arguments):
                pass

        return Handler


APPLICATIONS = "/api/serve/applications/"
INDEX = "/v2/repository/index"


def application(status="RUNNING", message="", running=1, target=1):
    """Return an application as Ray Serve's REST API describes it."""
    replicas = [{"state": "RUNNING"}] * running + [{"state": "STARTING"}] * (target - running)
    deployment = {"replicas": replicas, "target_num_replicas": target, "message": ""}
    return {"status": status, "message": message, "deployments": {"model": deployment}}


def applications(**by_name):
    """Return all applications as Ray Serve's REST API describes them."""
    return {"applications": by_name}
