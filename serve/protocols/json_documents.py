"""JSON bodies of both protocols: requests, responses with tensors, errors and metadata.

Tensors are read and written with the tokens NaN, Infinity and -Infinity, which JSON itself lacks:
TensorFlow Serving does the same, and tritonclient and kserve parse them. What reads and writes
JSON fast knows no such tokens, so they are put beside it: see `_parse_with_tokens` and `numbers`.
"""

import json
from itertools import chain
from typing import Any

import numpy as np
import orjson

from serve.errors import InvalidRequest
from serve.types import Array

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_LONGEST_MESSAGE = 4_000  # characters; names that a client sends, which it quotes, have any length


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises InvalidRequest."""
    if not body.strip():
        raise InvalidRequest("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        if b"NaN" not in body and b"Infinity" not in body:
            raise _refusal(err) from err
        document = _parse_with_tokens(body)
    if not isinstance(document, dict):
        raise InvalidRequest(f"JSON Value is not an object but a {type(document).__name__}")
    return document


def _parse_with_tokens(body: bytes) -> Any:
    """Return the document of a body with NaN and infinities; whatever else it has is held to JSON.

    Python's reader takes the tokens, but also half a surrogate pair, and numbers beyond a double as
    infinities. So the stricter one reads the body first, with zeros of the same length for tokens.
    """
    try:
        orjson.loads(_without_tokens(body))
        return json.loads(body)
    except json.JSONDecodeError as err:  # orjson's are these, too
        raise _refusal(err) from err
    except RecursionError as err:
        raise InvalidRequest("JSON Parse error: the document is nested too deep") from err


def _without_tokens(body: bytes) -> bytes:
    """Return a body as long with zeros for the tokens that stand outside of strings."""
    # Without escaped quotes, the pieces between quotes are outside of strings and in them by turns.
    pieces = body.replace(rb"\\", b"__").replace(rb"\"", b"__").split(b'"')
    pieces[::2] = [
        piece.replace(b"NaN", b"0  ").replace(b"Infinity", b"0       ") for piece in pieces[::2]
    ]
    return b'"'.join(pieces)


def _refusal(err: json.JSONDecodeError) -> InvalidRequest:
    return InvalidRequest(f"JSON Parse error: {err.msg} at offset: {err.pos}")


def numbers(array: Array) -> Any:
    """Return what `dump` writes for an array of numbers or booleans of any rank.

    It is the array itself, unless there is NaN or an infinity in it or it has rank 0.
    """
    lost = _not_finite(array)
    if array.ndim and lost is None:
        return np.ascontiguousarray(array)
    text = orjson.dumps(np.ascontiguousarray(array), option=_OPTIONS)
    if lost is not None:
        # What is not finite was written as null, and nothing else was.
        *pieces, last = text.split(b"null")
        text = b"".join([*chain.from_iterable(zip(pieces, lost, strict=True)), last])
    return orjson.Fragment(text if array.ndim else text[1:-1])


def rows_of_numbers(array: Array) -> list[Any]:
    """Return what `dump` writes for each row of an array of numbers or booleans."""
    if _not_finite(array) is None:
        return list(np.ascontiguousarray(array))
    rows = np.ascontiguousarray(array)
    is_finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
    return [row if is_finite[index] else numbers(row) for index, row in enumerate(rows)]


def _not_finite(array: Array) -> list[bytes] | None:
    """Return the token of each number that is not finite, in row-major order, None for none."""
    if array.dtype.kind != "f":
        return None
    is_finite = np.isfinite(array)
    if is_finite.all():
        return None
    lost = array[~is_finite]
    infinities = np.where(lost > 0, b"Infinity", b"-Infinity")
    tokens: list[bytes] = np.where(np.isnan(lost), b"NaN", infinities).tolist()
    return tokens


def dump(document: Any) -> bytes:
    """Return the body of a document whose arrays went through `numbers`."""
    return orjson.dumps(document, option=_OPTIONS)


def encode_error(message: str) -> bytes:
    """Return the error body that V2 clients and TensorFlow Serving clients read."""
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}... ({len(message)} characters in all)"
    # A message may quote what a client sent; half a surrogate pair cannot be written.
    return encode_json({"error": message.encode(errors="replace").decode()})


def encode_json(value: Any) -> bytes:
    """Return the body of metadata, a status or an index: JSON without arrays."""
    return orjson.dumps(value)
