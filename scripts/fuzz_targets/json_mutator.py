"""Changes of JSON that leave it JSON: bytes changed at random rarely get past its parser.

Called by libFuzzer between its own mutations, with a seed that it chooses.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from fuzz_targets.layout import Parts, join, split

# What decoders stumble over: borders of datatypes, of shapes, of names, and what is not JSON's.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -0.0, 1, -1, 2, 127, 128, 255, 256, -129, 2**31, 2**32, 2**53 + 1, 2**63,
    2**64, -(2**63) - 1, 10**25, 1e39, 1e308, 65504, 65520.0, 0.1, float("nan"), float("inf"),
    -float("inf"), "", "x", "NaN", "\0", "ä", "\ud800", "\ud83d\ude00", "serving_default", [], [[]],
    [[], []], [[[]]], {}, {"b64": "YQ=="}, {"b64": ""}, {"b64": None}, {"x": 1}, [0], [1, 2],
    [[1], [2]], [0, 2**62], [-1], [2**40], [0, 2**63], [1] * 33, {"binary_data_size": 4},
    {"binary_data": True}, {"classification": 1}, {"binary_data_output": True}, {"timeout": 0},
    {"timeout": 2**63},
)  # fmt: skip
DATATYPES = (
    "BOOL", "UINT8", "INT8", "INT64", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES",
)  # fmt: skip
KEYS = (
    "x", "s", "y", "image", "s_bytes", "inputs", "outputs", "instances", "data", "shape", "name",
    "datatype", "parameters", "signature_name", "id", "b64", "binary_data", "binary_data_size",
    "binary_data_output", "timeout", "classification", "model_version", "model_name", "",
)  # fmt: skip
_DEEPEST = 60  # of lists that a change puts around a value


def mutate(data: bytes, seed: int, otherwise: Callable[[bytes], bytes]) -> bytes:
    """Return an input with its JSON changed in a place or some, or what `otherwise` makes of it."""
    rng = random.Random(seed)
    parts = split(data)
    document = _parsed(parts.text)
    if document is None or rng.random() < 0.3:
        return otherwise(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        document = _changed(document, rng)
    return join(_with_text(parts, _written(document, rng)))


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _written(document: Any, rng: random.Random) -> bytes:
    plain = rng.random() < 0.5
    separators = (",", ":") if rng.random() < 0.5 else (" ,\n", " : ")
    text = json.dumps(document, ensure_ascii=plain, separators=separators)
    return text.encode(errors="surrogatepass")


def _with_text(parts: Parts, text: bytes) -> Parts:
    if parts.json_length is None:
        return Parts(parts.choice, None, text)
    return Parts(parts.choice, len(text), text + parts.body[parts.json_length :])


def _changed(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """Return a value with one of its parts, or all of it, replaced, repeated, wrapped or gone."""
    if depth < 20 and isinstance(value, dict) and value and rng.random() < 0.8:
        return _changed_object(value, rng, depth)
    if depth < 20 and isinstance(value, list) and value and rng.random() < 0.8:
        return _changed_list(value, rng, depth)
    kind = rng.randrange(4)
    if kind == 0:
        return _wrapped(value, rng.choice((1, 1, 2, 33, _DEEPEST)))
    if kind == 1:  # few of what may be large, since all of it may be repeated again
        return [value] * rng.choice((1, 2, 3) if isinstance(value, list | dict) else (1, 2, 300))
    return rng.choice(DATATYPES) if rng.random() < 0.2 else rng.choice(VALUES)


def _wrapped(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = [value]
    return value


def _changed_object(value: dict[str, Any], rng: random.Random, depth: int) -> dict[str, Any]:
    key = rng.choice(list(value))
    kind = rng.randrange(8)
    if kind == 0:
        return {name: item for name, item in value.items() if name != key}
    if kind == 1:
        return {rng.choice(KEYS) if name == key else name: item for name, item in value.items()}
    if kind == 2:
        return {**value, rng.choice(KEYS): rng.choice(VALUES)}
    return {**value, key: _changed(value[key], rng, depth + 1)}


def _changed_list(value: list[Any], rng: random.Random, depth: int) -> list[Any]:
    index = rng.randrange(len(value))
    kind = rng.randrange(8)
    if kind == 0:
        return value[:index] + value[index + 1 :]
    if kind == 1:
        return value[: index + 1] + value[index:]
    if kind == 2:
        return [*value, rng.choice(VALUES)]
    changed = _changed(value[index], rng, depth + 1)
    return [*value[:index], changed, *value[index + 1 :]]
