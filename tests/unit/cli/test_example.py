"""The request that `strata up` prints is one that a shell sends as printed."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from serve.cli.example import example_call
from serve.deploy.ingress import Ingress


def _tensor(datatype, *shape):
    return {"name": "x", "datatype": datatype, "shape": list(shape)}


def _body_of(line):
    """Return what a shell sends for an example; a program gets the arguments, as curl would."""
    show = "import sys; print(sys.stdin.read() if sys.argv[-1] == '@-' else sys.argv[-1])"
    shell = f'curl() {{ {sys.executable} -c "{show}" "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        (_tensor("FP32", -1), 0),
        (_tensor("INT64", -1, 20), 0),
        (_tensor("FP32", -1, 28, 28, 1), 0),
        (_tensor("BOOL", -1, 3), False),
        (_tensor("BYTES", -1), ""),
        (_tensor("BYTES", -1, 30), ""),
        ({**_tensor("FP32", -1), "name": "it's"}, 0),
    ],
)
def test_the_example_is_a_request_that_a_shell_sends_as_printed(ingress, tensor, value):
    ingress.pages["GET /v2/models/digits"] = {"inputs": [tensor], "outputs": []}
    line = example_call(Ingress(f"http://127.0.0.1:{ingress.port}"), "digits")
    assert len(line) < 250
    (sent,) = _body_of(line)["inputs"]
    shape = [abs(size) for size in tensor["shape"]]
    data = json.dumps(sent.pop("data"))  # as text, since 0 would equal false
    assert data == json.dumps([value] * math.prod(shape))
    assert sent == {**tensor, "shape": shape}


@pytest.mark.parametrize(
    ("inputs", "columns"),
    [
        ([_tensor("BF16", -1, 2, 3)], {"x": [[[0, 0, 0], [0, 0, 0]]]}),
        ([_tensor("FP16")], {"x": 0}),
        ([{**_tensor("BYTES", -1, 2), "name": "it's"}], {"it's": [["", ""]]}),
        ([_tensor("BOOL", -1), {**_tensor("INT8", 1, 1), "name": "y"}], {"x": [False], "y": [[0]]}),
    ],
)
def test_half_floats_which_v2_does_not_have_as_json_get_an_example_by_v1(ingress, inputs, columns):
    half = {**_tensor("FP16", -1), "name": "out"}
    ingress.pages["GET /v2/models/digits"] = {"inputs": inputs, "outputs": [half]}
    line = example_call(Ingress(f"http://127.0.0.1:{ingress.port}"), "digits")
    assert "/v1/models/digits:predict" in line
    assert _body_of(line) == {"inputs": columns}


def test_there_is_no_example_for_a_model_that_is_away_just_now(ingress):
    assert example_call(Ingress(f"http://127.0.0.1:{ingress.port}"), "away") is None


@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
def test_no_argument_of_an_example_is_longer_than_linux_takes(ingress, datatype):
    picture = _tensor(datatype, -1, 299, 299, 3)
    ingress.pages["GET /v2/models/digits"] = {"inputs": [picture], "outputs": []}
    line = example_call(Ingress(f"http://127.0.0.1:{ingress.port}"), "digits")
    assert len(line) < 400
    body = _body_of(line)["inputs"]
    data = body["x"] if datatype == "FP16" else body[0]["data"]
    assert np.array(data).size == 299 * 299 * 3
