"""JSON bodies of both protocols: requests, responses with tensors, errors and metadata.

Tensors are read and written with the tokens NaN, Infinity and -Infinity, which JSON itself lacks:
TensorFlow Serving does the same, and tritonclient and kserve parse them.
"""

import json
from typing import Any

import numpy as np
import orjson

from serve.errors import InvalidRequest

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises InvalidRequest."""
    if not body.strip():
        raise InvalidRequest("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        document = _parse_with_nan(body, err)
    if not isinstance(document, dict):
        raise InvalidRequest(f"JSON Value is not an object but a {type(document).__name__}")
    return document


def _parse_with_nan(body: bytes, err: orjson.JSONDecodeError) -> Any:
    if b"NaN" in body or b"Infinity" in body:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass  # the first error says where
    raise InvalidRequest(f"JSON Parse error: {err.msg} at offset: {err.pos}") from err


def dump(document: Any, arrays: list[np.ndarray[Any, Any]]) -> bytes:
    """Return the body of a document that contains `arrays`; NaN and infinities become tokens."""
    if all(_is_finite(array) for array in arrays):
        return orjson.dumps(document, option=_OPTIONS)
    # Python's writer is slower and the only one with these tokens; float32 keeps its digits.
    return json.dumps(document, default=_to_lists, separators=(",", ":")).encode()


def _is_finite(array: np.ndarray[Any, Any]) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _to_lists(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        # The shortest decimal that reads back as the same float32, as orjson writes it.
        return value.astype("U").astype(np.float64).tolist()
    return value.tolist()


def encode_error(message: str) -> bytes:
    """Return the error body that V2 clients and TensorFlow Serving clients read."""
    return encode_json({"error": message})


def encode_json(value: Any) -> bytes:
    """Return the body of metadata, a status or an index: JSON without arrays."""
    return orjson.dumps(value)
