"""What the benchmarks have in common: the digits model, its platform, and the requests to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.load import Body
from serve.config.schema import Config
from serve.protocols import rest_v2
from serve.types import Array, InferRequest

MODEL = "digits"
# Of the benchmarks alone, so that a platform beside them is left in peace.
PORTS = {"http": 18000, "metrics": 18001, "dashboard": 18002}


def platform_config(
    repository: Path, engine: str = "auto", ports: Mapping[str, int] = PORTS
) -> Config:
    """Return the config of a platform that serves the digits model of a repository."""
    tree: dict[str, Any] = {
        # A measurement has the machine for itself; who wants a verdict makes it before.
        "repository": {"root": str(repository), "try_engines": False},
        "http": {"port": ports["http"]},
        "ports": {"metrics": ports["metrics"], "dashboard": ports["dashboard"]},
        "models": [{"name": MODEL, "engine": engine}],
    }
    return Config.model_validate(tree)


def v2_json(images: Array) -> Body:
    """Return images [N, 28, 28, 1] as a V2 request in JSON."""
    data, _ = rest_v2.encode_request(InferRequest({"image": images}), binary=False)
    return Body(data, content_type="application/json")


def v2_binary(images: Array) -> Body:
    """Return images [N, 28, 28, 1] as a V2 request with the binary tensor extension."""
    return Body(*rest_v2.encode_request(InferRequest({"image": images}), binary=True))


def blank_images(count: int) -> Array:
    """Return the images that are sent for load, all of one grey."""
    return np.full((count, 28, 28, 1), 0.25, np.float32)


def bodies() -> dict[str, Body]:
    """Return the requests that are sent: one image as JSON and raw, 32 images raw."""
    return {
        "JSON": v2_json(blank_images(1)),
        "binary": v2_binary(blank_images(1)),
        "binary x32": v2_binary(blank_images(32)),
    }
