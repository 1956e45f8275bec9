"""Whatever a client sends, it gets a clear 4xx and nobody else notices."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import requests

from serve.deploy.environment import connections_allowed
from serve.deploy.local_platform import open_files

pytestmark = pytest.mark.integration

_IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 28, 28, 1], "data": [0] * 784}


def _with(**changes):
    return json.dumps({"inputs": [{**_IMAGE, **changes}]})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "JSON Parse error"),
        ("", "document is empty"),
        ("[1]", "not an object"),
        ("[" * 100_000, "JSON Parse error"),
        ("{}", "'inputs' must be a list"),
        (json.dumps({"inputs": []}), "takes the inputs 'image'"),
        (_with(name="picture"), "got 'picture'"),
        (_with(datatype="INT32"), "expects 'image' FP32"),
        (_with(datatype="FLOAT"), "known: BOOL"),
        (_with(shape=[1, 784]), "expects 'image' FP32 [-1, 28, 28, 1]"),
        (_with(shape=[2, 28, 28, 1]), "1568 elements"),
        (_with(data=[0] * 783), "784 elements"),
        (_with(data=[0] * 785), "784 elements"),
        (_with(shape=[-1, 28, 28, 1]), "sizes >= 0"),
        (_with(shape=[10**9, 10**9, 10**9, 10**9]), "too many elements"),
        (_with(data=[[0] * 3, [0] * 4]), "ragged"),
        (_with(data=["a"] * 784), "not of expected type"),
        (_with(data=[None] * 784), "not of expected type"),
        (json.dumps({"inputs": [_IMAGE, _IMAGE]}), "given twice"),
        (json.dumps({"inputs": [_IMAGE], "outputs": [{"name": "no"}]}), "unknown output 'no'"),
        (
            json.dumps({"inputs": [_IMAGE], "parameters": {"signature_name": "no"}}),
            "not found in signature def",
        ),
    ],
)
def test_a_bad_v2_body_is_a_400_that_says_what_is_wrong(served, body, said):
    answer = requests.post(served.infer_url("digits"), data=body, timeout=60)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Inference-Header-Content-Length": "99999"}, 400, "the body has"),
        ({"Inference-Header-Content-Length": "ten"}, 400, "number of bytes"),
        ({"Content-Encoding": "br"}, 501, "Unsupported compression type"),
        ({"Content-Encoding": "gzip"}, 400, "not gzip"),
    ],
)
def test_a_bad_header_is_refused(served, headers, status, said):
    answer = requests.post(served.infer_url("digits"), data=_with(), headers=headers, timeout=60)
    assert answer.status_code == status
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("POST", "/v2/models/nobody/infer", 404, "Request for unknown model: 'nobody'"),
        ("POST", "/v2/models/digits/versions/9/infer", 404, "(available: 1"),
        ("POST", "/v2/models/digits/labels/no/infer", 404, "Unrecognized servable version label"),
        ("GET", "/v2/models/digits/infer", 405, "Method Not Allowed"),
        ("GET", "/v2/models/digits/nothing", 404, "Not Found"),
        ("GET", "/nothing", 404, "Not Found"),
        (
            "POST",
            "/v1/models/nobody:predict",
            404,
            "Servable not found for request: Latest(nobody)",
        ),
        (
            "POST",
            "/v1/models/digits:explain",
            400,
            "Malformed request: POST /v1/models/digits:explain",
        ),
        ("POST", "/v1/models/digits:classify", 501, ":predict"),
    ],
)
def test_a_bad_path_is_refused(served, method, path, status, said):
    answer = requests.request(method, served.url + path, data=_with(), timeout=60)
    assert answer.status_code == status
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "JSON Parse error"),
        ("{}", "exactly one of"),
        ('{"instances": [1], "inputs": [1]}', "exactly one of"),
        ('{"instances": []}', "at least one"),
        ('{"instances": [1], "signature_name": 3}', "must be a string value"),
        ('{"instances": [{"x": 1}, {"y": 1}]}', "other keys"),
        ('{"instances": [[[1, 2], [3]]]}', "ragged"),
        ('{"instances": ["a"]}', "not of expected type"),
    ],
)
def test_a_bad_v1_body_is_a_400_that_says_what_is_wrong(served, body, said):
    answer = requests.post(f"{served.url}/v1/models/digits:predict", data=body, timeout=60)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_body_over_the_limit_is_refused_before_it_is_read(served):
    answer = requests.post(served.infer_url("digits"), data=b" " * 3_000_000, timeout=30)
    assert answer.status_code == 413
    assert "limits.max_body_bytes" in answer.json()["error"]


def test_a_compressed_bomb_is_refused(served):
    import gzip

    bomb = gzip.compress(b" " * 50_000_000)
    answer = requests.post(
        served.infer_url("digits"), data=bomb, headers={"Content-Encoding": "gzip"}, timeout=30
    )
    assert answer.status_code == 413


def test_a_client_that_hangs_up_mid_request_harms_nobody(served):
    host, port = served.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\n"
                b'Content-Length: 5000\r\n\r\n{"inputs"'
            )
    assert requests.post(served.infer_url("digits"), data=_with(), timeout=60).ok


def test_thousands_of_open_connections_do_not_keep_anybody_out(served):
    """10,000, or as many as HAProxy may hold where the system allows few open files."""
    count = min(10_000, connections_allowed(open_files()) - 100)
    host, port = served.url.removeprefix("http://").split(":")
    connections = []
    try:
        for _ in range(count):
            connections.append(socket.create_connection((host, int(port)), timeout=60))
        assert requests.post(served.infer_url("digits"), data=_with(), timeout=60).ok
    finally:
        for connection in connections:
            connection.close()


def _busy(served, steps, timeout_us=None):
    tensor = {"name": "steps", "datatype": "INT32", "shape": [1], "data": [steps]}
    parameters = {} if timeout_us is None else {"timeout": timeout_us}
    body = {"inputs": [tensor], "parameters": parameters}
    return requests.post(served.infer_url("busy"), json=body, timeout=300)


def _require_free(served, eventually):
    """Wait until the model answers again: a call whose clients have gone is computed to its end."""
    eventually(lambda: _busy(served, 1).status_code == 200)


def test_overload_is_a_429_with_retry_after_and_the_rest_is_answered(served, eventually):
    """Two batches of two and four that wait: of 24 requests in the time of one batch, 16 go."""

    def refused_of_many():  # none is, if they do not come while one batch is computed
        with ThreadPoolExecutor(24) as clients:
            answers = list(clients.map(lambda _: _busy(served, 600), range(24)))
        assert {answer.status_code for answer in answers} <= {200, 429, 504}
        assert 200 in {answer.status_code for answer in answers}
        return [answer for answer in answers if answer.status_code == 429]

    refused, *_ = eventually(refused_of_many)
    assert refused.headers["Retry-After"] == "1"
    assert "max_queued_requests" in refused.json()["error"]
    _require_free(served, eventually)


def test_a_request_that_takes_too_long_is_a_504(served):
    answer = _busy(served, 2_000, timeout_us=50_000)
    assert answer.status_code == 504
    assert "no answer within 0.05 s" in answer.json()["error"]


def _hung_up(served, protocol):
    """Return how many requests of the model busy were given up by their clients."""
    text = requests.get(served.metrics_url, timeout=60).text
    lines = [line for line in text.splitlines() if line.startswith("ray_model_requests_total{")]
    tags = ('model="busy"', f'protocol="{protocol}"', 'code="499"')
    return sum(float(line.split()[-1]) for line in lines if all(tag in line for tag in tags))


def _steps(path, steps):
    """Return a request to the model busy as it goes over the wire."""
    tensor = {"name": "steps", "datatype": "INT32", "shape": [1], "data": [steps]}
    is_v2 = path.startswith("/v2")
    body = json.dumps({"inputs": [tensor]} if is_v2 else {"instances": [steps]}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("path", ["/v2/models/busy/infer", "/v1/models/busy:predict"])
def test_a_request_whose_client_hangs_up_is_given_up(served, eventually, path):
    protocol = path[1:3]
    before = _hung_up(served, protocol)
    host, port = served.url.removeprefix("http://").split(":")

    def connect():
        return socket.create_connection((host, int(port)), timeout=300)

    def hang_up_behind_another():
        with connect() as other:
            other.sendall(_steps("/v2/models/busy/infer", 6_000))
            with connect() as client:
                client.sendall(_steps(path, 1))
                client.settimeout(0.5)
                with suppress(TimeoutError):
                    client.recv(1)  # it waits for the engine, which computes for seconds
            assert other.recv(12) in {b"HTTP/1.1 200", b"HTTP/1.1 504"}

    def is_given_up():
        hang_up_behind_another()
        with suppress(AssertionError):  # the other one came second, and this one was answered
            return eventually(lambda: _hung_up(served, protocol) > before, timeout_s=5)

    assert eventually(is_given_up, timeout_s=600)
    _require_free(served, eventually)


def test_a_v1_body_of_megabytes_goes_to_its_replica_and_comes_back(served):
    long = "a" * 6_000_000
    sent = requests.post(
        f"{served.url}/v1/models/text:predict", json={"instances": [long]}, timeout=60
    )
    assert sent.status_code == 200, sent.text[:200]
    assert sent.json() == {"predictions": [{"upper": long.upper(), "length": len(long)}]}


def test_a_row_that_the_model_refuses_fails_alone(served):
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda steps: _busy(served, steps), [1, 13, 2]))
    assert [answer.status_code for answer in answers] == [200, 400, 200]
    error = answers[1].json()["error"]
    assert "the model refused these inputs: assertion failed" in error
    assert "Traceback" not in error


def test_an_id_comes_back_with_whatever_is_answered(served):
    traced = {
        "X-Request-Id": "seven",
        "traceparent": f"01-{'a' * 32}-{'b' * 16}-00-zz",
    }
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[0,9223372036854775808],"data":[]}]}'
    answer = requests.post(served.infer_url("busy"), data=body, headers=traced, timeout=60)
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (400, "seven")
    assert "too many elements" in answer.json()["error"]


def test_nothing_of_all_that_has_cost_a_replica(served):
    states = served.platform.api.states()
    assert {state.status for state in states.values()} == {"RUNNING"}
    values = np.array([served.held_out[0]]).tolist()
    answer = requests.post(
        f"{served.url}/v1/models/digits:predict", json={"instances": values}, timeout=60
    )
    assert answer.ok
