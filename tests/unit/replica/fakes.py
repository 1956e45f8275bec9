"""A model and its endpoint as a replica has them, over numpy: sources, engines and requests."""

import asyncio
import json
import threading

import numpy as np

from serve.config.schema import Model as ModelConfig
from serve.config.sections import RayActorOptions, VersionPolicy
from serve.edge.http import HttpRequest
from serve.engines.engine import NoLayers
from serve.errors import InferenceFailed, InvalidRequest
from serve.replica.endpoint import ModelEndpoint
from serve.replica.model import Model
from serve.telemetry.request_metrics import RequestMetrics
from serve.types import Signature, TensorSpec
from tests.reached import Reached
from tests.unit.telemetry.fakes import FakeRecorder

X = TensorSpec("x", "FP32", (-1,))
Y = TensorSpec("y", "FP32", (-1,))


class Doubler:
    """An engine that doubles x, or takes it `factor` times.

    The number 13 makes it fail, and 30 is a value that it refuses.
    """

    platform = "numpy"
    default_signature = "serving_default"
    may_block_loop = True
    pads_itself = False
    name = "tensorflow"
    reason = "set by a test"
    layers = NoLayers()
    retraces = 0

    def __init__(self, factor=2):
        self.warm_sizes = ()
        self.is_closed = False
        self.signatures = {"serving_default": Signature("serving_default", (X,), (Y,), True)}
        self._factor = factor

    def infer(self, signature, inputs):
        if (inputs["x"] == 13).any():
            raise InferenceFailed("thirteen")
        if (inputs["x"] == 30).any():
            raise InvalidRequest("30 is not in [0, 10)")
        return {"y": inputs["x"] * self._factor}

    def warmup(self, batch_sizes):
        self.warm_sizes = tuple(batch_sizes)

    def close(self):
        self.is_closed = True


class Held(Doubler):
    """A Doubler that stands still in `infer` or `warmup`, until `goes_on` is set."""

    def __init__(self, at, factor=2):
        super().__init__(factor)
        self.entered, self.goes_on = Reached(), Reached()
        self.thread = None
        self._at = at

    def infer(self, signature, inputs):
        self._hold("infer")
        return super().infer(signature, inputs)

    def warmup(self, batch_sizes):
        self._hold("warmup")
        super().warmup(batch_sizes)

    def _hold(self, place):
        if place == self._at:
            self.thread = threading.current_thread()
            self.entered.set()
            self.goes_on.wait()


class Versions:
    """A source of versions that a test puts there, replaces and removes.

    `loads` are those that were loaded, in order, and `fetches` those that were fetched before;
    `error` is what a look for versions raises, and `unfetchable` what a fetch does.
    """

    def __init__(self, found=()):
        self._found = {}
        self.loads, self.fetches = [], []
        self.error = self.unfetchable = None
        for number, engine in dict(found).items():
            self.put(number, engine)

    def put(self, number, engine, revision=0):
        """Have a version that loads as this engine, or fails with this error."""
        self._found[number] = (engine, revision)

    def remove(self, number):
        del self._found[number]

    def versions(self):
        if self.error is not None:
            raise self.error
        return sorted(self._found)

    def revision(self, version):
        return self._found[version][1]

    def problems(self):
        return {}

    def absence(self):
        return "" if self._found else "its repository folder holds no complete version; publish one"

    def fetch(self, version):
        self.fetches.append(version)
        if isinstance(self.unfetchable, Exception):
            raise self.unfetchable

    def load(self, version):
        self.loads.append(version)
        engine, _ = self._found[version]
        if isinstance(engine, Exception):
            raise engine
        return engine

    def baseline(self, version, signatures):
        return None


async def endpoint(engine=None, *, versions=None, labels=(), **config):
    """Return the endpoint of a model `digits`, whose version 3 is loaded, or all of `versions`."""
    recorder = FakeRecorder()
    source = Versions({3: engine or Doubler()} if versions is None else versions)
    model = Model(ModelConfig(name="digits", **config), source, recorder)
    await model.apply(VersionPolicy(all=True), dict(labels))
    return ModelEndpoint(model, 10_000, RequestMetrics(recorder, RayActorOptions()))


class Called:
    """What a Ray Serve handle returns: awaited for its result, and ended by `cancel` alone."""

    def __init__(self, work):
        self._task = asyncio.ensure_future(work)

    def __await__(self):
        return asyncio.shield(self._task).__await__()

    def cancel(self):
        self._task.cancel()


def infer_request(*values, path="/v2/models/digits/infer", **headers):
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return HttpRequest("POST", path, sent, body)


def x(*values):
    return {"x": np.array(values, np.float32)}


async def call(app, request):
    """Send a request through ASGI; return its status and headers."""
    status, headers, _ = await fetch(app, request)
    return status, headers


async def fetch(app, request):
    """Send a request through ASGI; return its status, headers and body."""
    sent = []
    messages = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope_of(request), receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def scope_of(request):
    """Return a request's ASGI scope, which has all of it but the body."""
    return {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "headers": list(request.headers.items()),
    }


async def until(check, timeout_s=30.0):
    """Wait on the event loop until a check returns something true; return it."""
    async with asyncio.timeout(timeout_s):
        while not (value := check()):
            await asyncio.sleep(0.001)
    return value
