"""The probe against a server that answers wrong; integration tests have one that answers right."""

import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from tests.chart.conftest import CHART
from tests.loopback import serving

METADATA = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}
INFER = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}
PREDICT = {"outputs": [[1.0, 2.0]]}


@pytest.fixture
def probe():
    """Run the probe against a server with these answers to GET, infer and predict."""

    def run(metadata=METADATA, infer=INFER, predict=PREDICT, key=None):
        asked = []

        def respond(request):
            if request.headers.get("x-api-key") != key:
                return 401, {"error": "an API key is needed"}
            if request.method == "GET":
                return 200 if metadata else 500, metadata
            asked.append(json.loads(request.body))
            tree = infer if request.path.endswith("/infer") else predict
            return 200 if tree else 500, tree

        with serving(respond) as port:
            url = f"http://127.0.0.1:{port}"
            command = [sys.executable, CHART / "files" / "probe.py", "infer", url, "0", "m"]
            environment = os.environ | ({"STRATA_API_KEY": key} if key else {})
            run = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            return run, asked

    return run


def test_zeros_go_in_the_shape_of_the_metadata_as_v2_and_v1(probe):
    done, asked = probe()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "m: y FP32 [1, 2]\n"
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}
    assert asked == [{"inputs": [tensor]}, {"inputs": [[0, 0]]}]


def test_a_release_with_keys_is_sent_the_one_of_the_environment_each_time(probe):
    done, asked = probe(key="of-the-probe")
    assert done.returncode == 0, done.stderr
    assert len(asked) == 2


def test_half_floats_go_by_v1_alone(probe):
    halves = {**METADATA["inputs"][0], "datatype": "BF16"}
    done, asked = probe(metadata={**METADATA, "inputs": [halves]})
    assert done.returncode == 0, done.stderr
    assert asked == [{"inputs": [[0, 0]]}]
    done, asked = probe(metadata={**METADATA, "outputs": [{**halves, "name": "y"}]})
    assert (done.returncode, done.stdout) == (0, "m: y BF16\n"), done.stderr
    assert asked == [{"inputs": [[0, 0]]}]


def test_zeros_that_compute_to_no_number_pass_where_both_say_so(probe):
    values = [float("nan"), float("-inf")]
    infer = {"outputs": [{**INFER["outputs"][0], "data": values}]}
    done, _ = probe(infer=infer, predict={"outputs": [values]})
    assert done.returncode == 0, done.stderr
    done, _ = probe(infer=infer, predict={"outputs": [[float("nan"), float("inf")]]})
    assert "V1 and V2 differ" in done.stderr


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"infer": {"outputs": []}}, "is missing"),
        ({"infer": {"outputs": [{**INFER["outputs"][0], "shape": [2]}]}}, "has shape [2]"),
        ({"infer": {"outputs": [{**INFER["outputs"][0], "datatype": "INT64"}]}}, "is missing"),
        ({"predict": {"outputs": [[1.0, 3.0]]}}, "V1 and V2 differ in 'y'"),
        ({"predict": {"outputs": [[1.0]]}}, "V1 and V2 differ in 'y'"),
        ({"infer": None}, "/infer: 500"),
        ({"metadata": None}, "/v2/models/m: 500"),
    ],
)
def test_a_wrong_answer_fails_the_test_with_what_is_wrong(probe, answers, sentence):
    done, _ = probe(**answers)
    assert done.returncode == 1
    assert sentence in done.stderr


def test_what_is_no_http_is_waited_for_and_told():
    """As a port that still speaks TLS answers, while the cluster without it has not taken over."""
    alert = b"\x15\x03\x01\x00\x02\x02\x46"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(alert)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, CHART / "files" / "probe.py", "ready", url, "0", "m"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        thread.join()
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.startswith(f"{url}/v2/models/m/ready: ")


def test_a_redirect_is_an_answer_and_the_key_goes_nowhere_else():
    seen = []

    def elsewhere(request):
        seen.append(request.headers)
        return 200, METADATA

    with serving(elsewhere) as other:

        def respond(request):
            return 307, {}, {"Location": f"http://127.0.0.1:{other}{request.path}"}

        with serving(respond) as port:
            url = f"http://127.0.0.1:{port}"
            command = [sys.executable, CHART / "files" / "probe.py", "infer", url, "0", "m"]
            environment = os.environ | {"STRATA_API_KEY": str(port)}
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
    assert done.returncode != 0
    assert "307" in done.stdout + done.stderr
    assert seen == []
