"""mosec: a front in Rust and one Python worker, batches of up to 64 requests, 1 ms of waiting.

Run as `python mosec_server.py <SavedModel> <port>`. Takes JSON, and raw float32 images as they are.
"""

import os
import sys
from typing import Any

import numpy as np
from mosec import Server, Worker

_SHAPE = (-1, 28, 28, 1)
_FOLDER = "BENCH_SAVED_MODEL"  # the worker is another process, which has other arguments


class Signature(Worker):
    """Images in, probabilities out; each request is answered in the form that it came in."""

    def __init__(self) -> None:
        from signature import load

        self._infer = load(os.environ[_FOLDER])

    def deserialize(self, data: bytes) -> Any:
        """Return the images of a body, and whether they came as JSON."""
        if data[:1] == b"{":
            numbers = super().deserialize(data)["image"]
            return np.array(numbers, np.float32).reshape(_SHAPE), True
        return np.frombuffer(data, np.float32).reshape(_SHAPE), False

    def forward(self, data: Any) -> Any:
        """Return the probabilities of every request of a batch, from one call of the engine."""
        images = [image for image, _ in data]
        outputs = self._infer(np.concatenate(images) if len(images) > 1 else images[0])
        ends = np.cumsum([len(image) for image in images])[:-1]
        pieces = np.split(outputs, ends)
        return [(piece, is_json) for piece, (_, is_json) in zip(pieces, data, strict=True)]

    def serialize(self, data: Any) -> bytes:
        """Return the body of a response."""
        probabilities, is_json = data
        if is_json:
            return bytes(super().serialize({"probabilities": probabilities.ravel().tolist()}))
        return bytes(probabilities.tobytes())


if __name__ == "__main__":
    os.environ[_FOLDER], port = sys.argv[1:3]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    server = Server()
    server.append_worker(Signature, num=1, max_batch_size=64, max_wait_time=1)
    server.run()
