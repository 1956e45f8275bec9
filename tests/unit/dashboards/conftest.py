"""A Prometheus that answers every query with what a test gives it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from dashboards.query import Moment, Prometheus

END, RANGE_S = 1_700_000_000.0, 1800.0


class FakePrometheus(ThreadingHTTPServer):
    """Keeps what it was asked; `series` are labels and a value that does not change."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.series = [({}, 1.0)]
        self.asked = []
        self.status = 200

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, form):
        if "start" not in form:
            return [{"metric": labels, "value": [END, str(v)]} for labels, v in self.series]
        times = [float(form["start"]), float(form["end"])]
        return [
            {"metric": labels, "values": [[time, str(v)] for time in times]}
            for labels, v in self.series
        ]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        self.server.asked.append(form)
        text = json.dumps({"data": {"result": self.server.answer(form)}}).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def prometheus():
    server = FakePrometheus()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def moment(prometheus):
    return Moment(Prometheus(prometheus.url), {"model": "digits"}, END, RANGE_S)
