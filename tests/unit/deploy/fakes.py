"""A server on loopback in place of Ray's dashboard, which keeps what it is asked."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Dashboard(ThreadingHTTPServer):
    """Keeps what it is asked, and responds with `status` and `document`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.status, self.document = [], 200, {}
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        self.server.asked.append((self.command, self.path, self.headers["Authorization"], body))
        said = json.dumps(self.server.document).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_PUT = do_GET

    def log_message(self, *_):
        pass


def application(status="RUNNING", message="", running=1, wanted=1):
    """Return an application as Ray Serve's REST API shows it."""
    replicas = [{"state": "RUNNING"}] * running
    deployment = {"message": message, "replicas": replicas, "target_num_replicas": wanted}
    return {"status": status, "message": "", "deployments": {"model": deployment}}
