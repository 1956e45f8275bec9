"""What is asked of the models of a platform, and the answers that their own files give.

The answers are computed by TensorFlow from each version's SavedModel, in a process of its own, so
that nothing of a platform is in them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from reliability.load import Question
from serve.learn.data import digits
from serve.protocols import rest_v2
from serve.types import Array, InferRequest

_OUTPUT = "probabilities"
# Engines compute the same numbers by other ways; another picture's differ by far more.
_TOLERANCE = 1e-3
_PICTURES = 8

# Probabilities [pictures, 10] by version.
Answers = Mapping[int, Array]


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that is asked: its path in the protocol that is spoken, and what is right."""

    name: str
    path: str
    answers: Answers

    @property
    def is_v1(self) -> bool:
        """Whether the path is TensorFlow Serving's."""
        return self.path.startswith("/v1/")


def pictures() -> Array:
    """Return held-out digits [8, 28, 28, 1], each of another class or writer."""
    return digits().x_test[:_PICTURES].astype(np.float32)


def answers_of(versions: Sequence[Path], rows: Array) -> list[Array]:
    """Return what each SavedModel makes of the rows, one after the other, each row by itself."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return list(executor.map(_computed, map(str, versions), [rows] * len(versions)))


def _computed(folder: str, rows: Array) -> Array:
    import tensorflow as tf

    model = tf.saved_model.load(folder)
    signature = model.signatures["serving_default"]
    computed = [signature(image=tf.constant(row[None]))[_OUTPUT].numpy()[0] for row in rows]
    return np.stack(computed)


def cascaded(first: Array, then: Array, threshold: float) -> Array:
    """Return a cascade's answers: the first model's where it is sure, the other's elsewhere."""
    return np.where(first.max(axis=1, keepdims=True) >= threshold, first, then)


def questions(asked: Sequence[Asked], rows: Array, host: str) -> list[Question]:
    """Return a question for each picture and model, the models in turn."""
    return [
        Question(each.name, _request(each, rows[index], host), _right(each, index))
        for index in range(len(rows))
        for each in asked
    ]


def _request(asked: Asked, row: Array, host: str) -> bytes:
    if asked.is_v1:
        body = json.dumps({"instances": [row.tolist()]}).encode()
    else:
        body, _ = rest_v2.encode_request(InferRequest({"image": row[None]}), binary=False)
    lines = (
        f"POST {asked.path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _right(asked: Asked, index: int) -> Callable[[bytes], bool]:
    def is_right(body: bytes) -> bool:
        try:
            document = json.loads(body)
            if asked.is_v1:
                return any(_same(document["predictions"][0], a[index]) for a in answers.values())
            expected = answers[int(document["model_version"])][index]
            outputs = {each["name"]: each["data"] for each in document["outputs"]}
            return _same(outputs[_OUTPUT], expected)
        except (ValueError, LookupError, TypeError):
            return False

    answers = {version: table.tolist() for version, table in asked.answers.items()}
    return is_right


def _same(found: Sequence[float], expected: Sequence[float]) -> bool:
    return len(found) == len(expected) and all(
        abs(a - b) <= _TOLERANCE for a, b in zip(found, expected, strict=True)
    )
