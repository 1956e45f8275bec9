"""Ray Serve the way its own Keras example serves a model: the other end of the comparison.

After "Serve ML Models" in Ray's documentation: `model.predict` in `__call__`, all defaults.
Run as `python ray_example_server.py <model.h5> <port>`; serves until SIGTERM.
"""

import signal
import sys
import threading
from typing import Any

import ray
from ray import serve as ray_serve


class KerasExample:
    """Holds a Keras model and predicts one request at a time."""

    def __init__(self, path: str) -> None:
        import keras

        self.model = keras.models.load_model(path, compile=False)

    async def __call__(self, request: Any) -> dict[str, Any]:
        import numpy as np

        array = np.array((await request.json())["array"]).reshape(1, 28, 28, 1)
        return {"prediction": self.model.predict(array).tolist()}


def main() -> None:
    """Serve until SIGTERM."""
    path, port = sys.argv[1], int(sys.argv[2])
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
    ray_serve.run(ray_serve.deployment(KerasExample).bind(path), route_prefix="/")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())  # Ray took it when it started
    stopped.wait()
    ray.shutdown()


if __name__ == "__main__":
    main()
