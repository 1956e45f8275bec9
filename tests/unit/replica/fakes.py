"""An endpoint as a replica has it, over numpy, for what is told of its requests."""

import json

import numpy as np

from serve.config.schema import Model as ModelConfig
from serve.config.sections import RayActorOptions, VersionPolicy
from serve.edge.http import HttpRequest
from serve.engines.engine import NoLayers
from serve.errors import InferenceFailed
from serve.replica.endpoint import ModelEndpoint
from serve.replica.model import Model
from serve.telemetry.request_metrics import RequestMetrics
from serve.types import Signature, TensorSpec
from tests.unit.telemetry.fakes import FakeRecorder

X = TensorSpec("x", "FP32", (-1,))
Y = TensorSpec("y", "FP32", (-1,))


class Doubler:
    """An engine that doubles x and refuses the number 13."""

    platform = "numpy"
    default_signature = "serving_default"
    may_block_loop = True
    pads_itself = False
    layers = NoLayers()
    retraces = 0

    def __init__(self):
        self.is_closed = False
        self.signatures = {"serving_default": Signature("serving_default", (X,), (Y,), True)}

    def infer(self, signature, inputs):
        if (inputs["x"] == 13).any():
            raise InferenceFailed("thirteen")
        return {"y": inputs["x"] * 2}

    def warmup(self, batch_sizes):
        pass

    def close(self):
        self.is_closed = True


class OneVersion:
    def __init__(self, engine):
        self._engine = engine

    def versions(self):
        return [3]

    def revision(self, version):
        return version

    def load(self, version):
        return self._engine

    def baseline(self, version, signatures):
        return None


async def endpoint(engine=None, **config):
    """Return the endpoint of a model `digits` that is loaded."""
    recorder = FakeRecorder()
    model = Model(ModelConfig(name="digits", **config), OneVersion(engine or Doubler()), recorder)
    await model.apply(VersionPolicy(latest=1), {})
    return ModelEndpoint(model, 10_000, RequestMetrics(recorder, RayActorOptions()))


def infer_request(*values, path="/v2/models/digits/infer", **headers):
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return HttpRequest("POST", path, sent, body)


def x(*values):
    return {"x": np.array(values, np.float32)}


async def call(app, request):
    """Send a request through ASGI; return its status and headers."""
    sent = []
    messages = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "headers": list(request.headers.items()),
    }
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])
