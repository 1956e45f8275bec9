import numpy as np
import orjson
import pytest
import requests
from bench.peers import wire
from bench.peers.wire import Way, asked
from bench.workload import v2_binary, v2_json
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serve.protocols import rest_v2
from serve.protocols.rest_v1 import decode_predict
from serve.types import InferResponse, Signature, TensorSpec

_IMAGES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.just(28), st.just(28), st.just(1)),
    elements=st.floats(0, 1, width=32),
    fill=st.floats(0, 1, width=32),
)


@given(_IMAGES)
def test_every_body_holds_the_images_as_they_are(images):
    for body in (v2_json(images), v2_binary(images)):
        request, _ = rest_v2.decode_request(body.data, body.json_length)
        np.testing.assert_array_equal(request.inputs["image"], images)
    signature = Signature("x", (TensorSpec("image", "FP32", (-1, 28, 28, 1)),), (), True)
    request, _ = decode_predict(wire.v1_json(images).data, {"x": signature}, "x")
    np.testing.assert_array_equal(request.inputs["image"], images)
    plain = orjson.loads(wire.plain_json(images).data)["image"]
    np.testing.assert_array_equal(np.array(plain, np.float32).reshape(images.shape), images)
    np.testing.assert_array_equal(
        np.frombuffer(wire.plain_binary(images).data, np.float32).reshape(images.shape), images
    )


_ROWS = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)


def _v2(binary):
    response = InferResponse("digits", 1, {"probabilities": _ROWS})
    body, length = rest_v2.encode_response(response, rest_v2.OutputFormat(binary=binary))
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    return 200, body, headers


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (wire.v2_answer, _v2(binary=False)),
        (wire.v2_answer, _v2(binary=True)),
        (wire.v1_answer, (200, {"predictions": _ROWS.tolist()})),
        (wire.plain_json_answer, (200, {"probabilities": _ROWS.ravel().tolist()})),
        (wire.plain_binary_answer, (200, _ROWS.tobytes())),
        (wire.ray_example_answer, (200, {"prediction": _ROWS.tolist()})),
    ],
    ids=["V2 JSON", "V2 binary", "V1", "plain JSON", "plain binary", "Ray's example"],
)
def test_probabilities_are_found_in_each_kind_of_response(serve_on_loopback, answer, reply):
    url = serve_on_loopback(lambda _: reply)
    got = asked(url, Way("/here", v2_json, answer), np.zeros((2, 28, 28, 1), np.float32))
    np.testing.assert_array_equal(got, _ROWS)


def test_a_request_goes_where_the_way_says_as_what_it_is(serve_on_loopback):
    seen = []
    url = serve_on_loopback(lambda request: (seen.append(request), _v2(binary=True))[1])
    images = np.zeros((1, 28, 28, 1), np.float32)
    for body in (v2_json, v2_binary):
        asked(url, Way("/there", body, wire.v2_answer), images)
    assert [request.path for request in seen] == ["/there", "/there"]
    kinds = [request.headers["content-type"] for request in seen]
    assert kinds == ["application/json", "application/octet-stream"]
    lengths = [request.headers.get("inference-header-content-length") for request in seen]
    assert lengths == [None, str(v2_binary(images).json_length)]


def test_an_echo_is_right_if_it_is_what_was_sent(serve_on_loopback):
    images = np.zeros((1, 28, 28, 1), np.float32)
    way = Way("/", v2_binary, wire.echoed)
    assert asked(serve_on_loopback(lambda request: (200, request.body)), way, images) == 1
    assert asked(serve_on_loopback(lambda request: (200, request.body[:-1])), way, images) == 0


def test_a_status_that_is_an_error_is_one(serve_on_loopback):
    url = serve_on_loopback(lambda _: (503, {"error": "loading"}))
    with pytest.raises(requests.HTTPError):
        asked(url, Way("/", v2_json, wire.v2_answer), np.zeros((1, 28, 28, 1), np.float32))
