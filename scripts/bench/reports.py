"""What the access log and traces cost a replica: the endpoint in process, taking turns.

Run as `scripts/bench/run reports [repository]`; figures are in docs/performance.md. CPU seconds
are measured, not seconds of the clock, which other work on the machine would add to.
"""

import asyncio
import gc
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.workload import MODEL, bodies
from serve.cli.printing import print_table
from serve.config.schema import Model as ModelConfig
from serve.config.sections import VersionPolicy
from serve.edge.http import HttpRequest
from serve.replica.endpoint import ModelEndpoint
from serve.replica.model import Model
from serve.replica.version_sources import RepositorySource
from serve.repository.repository import Repository
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_metrics import RequestMetrics
from serve.telemetry.request_reporter import Replica, reporter_for

_REQUESTS = 3_200
_ROUNDS = 15
_CONNECTIONS = 16
_COLLECTOR = """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", 0), Collector)
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> None:
    """Measure every setting in turns and print a table."""
    root = sys.argv[1] if len(sys.argv) > 1 else "models"
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, _collector() as endpoint:
        times = asyncio.run(_measure(root, Path(folder), _settings(endpoint)))
    off = times.pop("off")
    print_table(
        ("REPORTS", "CPU µs A REQUEST", "OVER OFF"),
        [("off", f"{np.median(off):.0f}", "")]
        + [
            (name, f"{np.median(each):.0f}", f"{np.median(each / off) - 1:+.1%}")
            for name, each in times.items()
        ],
    )


def _settings(endpoint: str) -> dict[str, dict[str, Any]]:
    def traced(ratio: float) -> dict[str, Any]:
        return {"tracing": {"endpoint": endpoint, "sampling_ratio": ratio}}

    return {
        "off": {},
        "off again": {},
        "access log": {"access_log": True},
        "tracing, 0": traced(0.0),
        "tracing, 0.01": traced(0.01),
        "tracing, 1": traced(1.0),
    }


async def _measure(
    root: str, folder: Path, settings: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    served = await _endpoint(root)
    body = bodies()["binary"]
    headers = {b"x-request-id": b"0a1b2c3d", b"host": b"localhost"}
    if body.json_length is not None:
        headers[b"inference-header-content-length"] = b"%d" % body.json_length
    path = f"/v2/models/{MODEL}/infer"
    replica = Replica(MODEL, "bench", folder)
    reporters = {name: reporter_for(wanted, replica, None) for name, wanted in settings.items()}

    async def client(count: int) -> None:
        for _ in range(count):
            response = await served.respond(HttpRequest("POST", path, dict(headers), body.data))
            assert response.status == 200

    gc.collect()
    gc.freeze()  # as Ray Serve does with a replica that has started
    times: dict[str, list[float]] = {name: [] for name in settings}
    for turn in range(_ROUNDS + 1):
        for name, reporter in reporters.items():
            served.reporter = reporter
            started = time.process_time()
            await asyncio.gather(*(client(_REQUESTS // _CONNECTIONS) for _ in range(_CONNECTIONS)))
            if reporter is not None and reporter.tracer is not None:
                await asyncio.to_thread(reporter.tracer.flush)
            if turn:  # the first one warms up
                times[name].append(1e6 * (time.process_time() - started) / _REQUESTS)
    return {name: np.array(each) for name, each in times.items()}


async def _endpoint(root: str) -> ModelEndpoint:
    config = ModelConfig(name=MODEL)
    source = RepositorySource(Repository(root, Path()), MODEL, config.ray_actor_options)
    recorder = Recorder(MODEL)
    model = Model(config, source, recorder)
    await model.apply(VersionPolicy(latest=1), {})
    metrics = RequestMetrics(recorder, config.ray_actor_options)
    return ModelEndpoint(model, config.limits.max_body_bytes, metrics)


@contextmanager
def _collector() -> Iterator[str]:
    """Start a collector of spans in a process of its own; yield the URL that takes them."""
    command = [sys.executable, "-c", _COLLECTOR]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1/traces"
        process.terminate()


if __name__ == "__main__":
    main()
