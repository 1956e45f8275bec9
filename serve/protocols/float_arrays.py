"""A JSON body's one large array of floats, read without making an object of each number.

What orjson makes of an image, lists of numbers, costs more than decoding all else of its request.
simdjson copies the numbers into a buffer in one go. So the array is cut out of the body and given
to simdjson alone; what is left is short, the same in all requests that a client does not number,
and read as any other document. simdjson tells neither how the numbers were nested nor whether
regularly; so an array that is not flat is compared, its brackets and commas, with one of the shape
that the first elements show. Called by both protocols before they read a body as a whole, which
they do with whatever is not exactly what is read here; that says what is wrong with it, too.
"""

import math
import re
from functools import cache, lru_cache
from typing import Any

import numpy as np
import simdjson

from serve.types import Array

# Below this size orjson is as quick.
_LEAST_BYTES = 512
_MAX_DIMENSIONS = 32  # as in tensors
_KEPT_ELEMENTS = 100_000  # of a shape whose brackets are kept, for the next request

# All that numbers and the space around them are made of.
_NUMBERS = b"0123456789+-.eE \t\n\r"


def cut_array(body: bytes, key: str) -> tuple[bytes, bytes] | None:
    """Return a body with `[]` for the one array under a key, and the text of that array.

    Both are JSON if the body is; then the key with that `[]` is the only one of its name. Whether
    they are, and whose key that is, the caller finds out. Returns None for a body without such a
    key, with two, for an array of strings or objects, and where it is not sure.
    """
    if len(body) < _LEAST_BYTES or b"\\" in body:
        return None
    start = _behind_key(body, key, 0)
    if start < 0 or not body.startswith(b"[", start):
        return None
    last = body.find(b"}", start)  # the end of the object that has the key
    following = body.find(b'"', start, last)  # the next key in it, if there is one
    end = body.rfind(b"]", start, last if following < 0 else following) + 1
    if last < 0 or end == 0 or _behind_key(body, key, end) >= 0:
        return None
    return body[:start] + b"[]" + body[end:], body[start:end]


def _behind_key(body: bytes, key: str, start: int) -> int:
    """Return where the value of the first key of that name begins, -1 without one.

    In JSON without backslashes a quote begins or ends a string, and none is within one. So quotes
    with a name between them and a colon behind them are that key, and there is no other spelling.
    """
    quoted, with_colon = _written(key)
    first = body.find(quoted, start)  # sooner than the other finds it
    found = with_colon.search(body, first) if first >= 0 else None
    return found.end() if found else -1


@cache
def _written(key: str) -> tuple[bytes, re.Pattern[bytes]]:
    quoted = b'"%s"' % key.encode()
    return quoted, re.compile(re.escape(quoted) + rb"[ \t\n\r]*:[ \t\n\r]*")


def read_floats(text: bytes) -> Array | None:
    """Return the float64 array of the JSON of numbers, in the shape that its nesting has.

    None for what is anything else, valid or not: no numbers, irregularly nested, too deep.
    """
    try:
        array: Any = simdjson.Parser().parse(text)
        numbers = np.frombuffer(array.as_buffer(of_type="d"), np.float64)
    except (RuntimeError, ValueError, TypeError, AttributeError):  # simdjson's, for other text
        return None
    if not numbers.size:
        return None
    if text.find(b"[", 1) < 0:
        return numbers
    shape = _shape_of_one_list(text, numbers.size) or _regular_shape(text, array, numbers.size)
    return numbers.reshape(shape) if shape and len(shape) <= _MAX_DIMENSIONS else None


def _shape_of_one_list(text: bytes, count: int) -> tuple[int, ...] | None:
    """Return the shape of numbers that are all in one list, itself perhaps alone in others."""
    opening = text[: text.rfind(b"[") + 1]
    closing = text[text.find(b"]") :]
    if opening.strip(b"[ \t\n\r") or closing.strip(b"] \t\n\r"):
        return None
    return (1,) * (opening.count(b"[") - 1) + (count,)


def _regular_shape(text: bytes, array: Any, count: int) -> tuple[int, ...] | None:
    """Return the shape of numbers whose nesting, compared as a whole, is that of the first ones."""
    shape = _shape_of_first(array)
    if math.prod(shape) != count:
        return None
    structure = text.translate(None, _NUMBERS)
    if len(structure) != _length_of_brackets(shape):  # of which memory may not hold as many
        return None
    brackets = (_kept_brackets if count <= _KEPT_ELEMENTS else _brackets)(shape)
    return shape if structure == brackets else None


def _shape_of_first(array: Any) -> tuple[int, ...]:
    """Return the lengths of an array, of its first element, of the first element of that..."""
    shape = []
    while isinstance(array, simdjson.Array):
        shape.append(len(array))
        array = array[0] if len(array) else None
    return tuple(shape)


def _brackets(shape: tuple[int, ...]) -> bytes:
    """Return the JSON of an array of a shape without its numbers."""
    text = b""
    for size in reversed(shape):
        text = b"[%s]" % b",".join([text] * size)
    return text


_kept_brackets = lru_cache(maxsize=16)(_brackets)


def _length_of_brackets(shape: tuple[int, ...]) -> int:
    length = 0
    for size in reversed(shape):
        length = size * length + size + 1  # a comma fewer than elements, and two brackets
    return length
