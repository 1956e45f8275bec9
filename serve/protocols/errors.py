"""JSON bodies that are not tensors: errors and metadata, the same in both protocols."""

from typing import Any

import orjson


def encode_error(message: str) -> bytes:
    """Return the error body that V2 clients and TensorFlow Serving clients read."""
    return orjson.dumps({"error": message})


def encode_json(value: Any) -> bytes:
    """Return a metadata or status body."""
    return orjson.dumps(value)
