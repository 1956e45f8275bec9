"""The KServe SDK's model server, V1 and V2, without a batcher: each request is one call.

Run as `python kserve_server.py <SavedModel> <port>`.
"""

import logging
import sys
from typing import Any

import numpy as np
import uvicorn
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid
from signature import load


class Signature(Model):
    """Images in, probabilities out, by either protocol."""

    def __init__(self, folder: str) -> None:
        super().__init__("digits")
        self._infer = load(folder)
        self.ready = True

    async def predict(self, payload: Any, *_: Any, **__: Any) -> Any:
        """Return the answer to one request, in its protocol."""
        if not isinstance(payload, InferRequest):
            rows = self._infer(np.array(payload["instances"], np.float32))
            return {"predictions": rows.tolist()}
        images = payload.inputs[0].as_numpy()
        probabilities = self._infer(images)
        shape = list(probabilities.shape)
        output = InferOutput("probabilities", shape, "FP32", data=probabilities)
        return InferResponse(
            payload.id or generate_uuid(),
            "digits",
            [output],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


class _Loopback(uvicorn.Config):
    """The settings of a uvicorn that listens on loopback: the SDK has no option for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **(options | {"host": "127.0.0.1"}))


if __name__ == "__main__":
    uvicorn.Config = _Loopback
    model = Signature(sys.argv[1])
    server = ModelServer(
        http_port=int(sys.argv[2]), enable_grpc=False, workers=1, enable_latency_logging=False
    )
    for name in ("uvicorn.access", "kserve.trace"):  # two lines a request
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([model])
