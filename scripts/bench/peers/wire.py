"""How the servers are asked: the body that holds images, and the tensor in what comes back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import orjson
import requests

from bench.load import Body
from serve.protocols import rest_v2
from serve.types import Array

_JSON = "application/json"
_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to ask a server: its path, the body for images, and the answer in a response.

    Images are [N, 28, 28, 1]. `answer` gets what was sent too, to understand an echo.
    """

    path: str
    body: Callable[[Array], Body]
    answer: Callable[[bytes, requests.Response], Array]


def asked(url: str, way: Way, images: Array) -> Array:
    """Return what a server answers to images. Raises requests.RequestException, ValueError."""
    body = way.body(images)
    headers = {"Content-Type": body.content_type}
    if body.json_length is not None:
        headers[_LENGTH] = str(body.json_length)
    response = requests.post(url + way.path, data=body.data, headers=headers, timeout=30)
    response.raise_for_status()
    return way.answer(body.data, response)


def v1_json(images: Array) -> Body:
    """Return images as a V1 request, in rows."""
    return Body(orjson.dumps({"instances": images.tolist()}), content_type=_JSON)


def plain_json(images: Array) -> Body:
    """Return images as one flat list in JSON."""
    return Body(orjson.dumps({"image": images.ravel().tolist()}), content_type=_JSON)


def plain_binary(images: Array) -> Body:
    """Return images as they are in memory."""
    return Body(images.astype(np.float32).tobytes())


def v2_answer(_: bytes, response: requests.Response) -> Array:
    """Return the probabilities [N, 10] of a V2 response."""
    length = response.headers.get(_LENGTH)
    decoded = rest_v2.decode_response(response.content, None if length is None else int(length))
    return decoded.outputs["probabilities"]


def v1_answer(_: bytes, response: requests.Response) -> Array:
    """Return the probabilities [N, 10] of a V1 response."""
    return np.array(response.json()["predictions"], np.float32)


def plain_json_answer(_: bytes, response: requests.Response) -> Array:
    """Return the probabilities [N, 10] of a flat list in JSON."""
    return np.array(response.json()["probabilities"], np.float32).reshape(-1, 10)


def plain_binary_answer(_: bytes, response: requests.Response) -> Array:
    """Return the probabilities [N, 10] of a body that is nothing else."""
    return np.frombuffer(response.content, np.float32).reshape(-1, 10)


def ray_example_answer(_: bytes, response: requests.Response) -> Array:
    """Return the probabilities [1, 10] of Ray's example."""
    return np.array(response.json()["prediction"], np.float32)


def ray_example(images: Array) -> Body:
    """Return an image as Ray's example wants it."""
    return Body(orjson.dumps({"array": images.ravel().tolist()}), content_type=_JSON)


def echoed(sent: bytes, response: requests.Response) -> Array:
    """Return 1 if a response is what was sent, 0 if not."""
    return np.array([response.content == sent], np.float32)
