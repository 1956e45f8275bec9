"""What the benchmarks have in common: the digits model, its platform, and the requests to it."""

from pathlib import Path
from typing import Any

import numpy as np

from bench.load import Body
from serve.config.schema import Config
from serve.protocols import rest_v2
from serve.types import InferRequest

MODEL = "digits"
# Of the benchmarks alone, so that a platform beside them is left in peace.
PORTS = {"http": 18000, "metrics": 18001, "dashboard": 18002}


def platform_config(repository: Path) -> Config:
    """Return the config of a platform that serves the digits model of a repository."""
    tree: dict[str, Any] = {
        "repository": {"root": str(repository)},
        "http": {"port": PORTS["http"]},
        "ports": {"metrics": PORTS["metrics"], "dashboard": PORTS["dashboard"]},
        "models": [{"name": MODEL}],
    }
    return Config.model_validate(tree)


def bodies() -> dict[str, Body]:
    """Return the requests that are sent: one image as JSON and raw, 32 images raw."""
    made = {}
    for name, rows, binary in (("JSON", 1, False), ("binary", 1, True), ("binary x32", 32, True)):
        images = np.full((rows, 28, 28, 1), 0.25, np.float32)
        request = InferRequest({"image": images})
        made[name] = Body(*rest_v2.encode_request(request, binary=binary))
    return made
