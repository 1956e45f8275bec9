"""Traces and access log of a running platform, through HAProxy and members' replicas."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
import requests
from ray.serve._private.logging_utils import get_serve_logs_dir

from tests.integration.test_operation import _replicas

pytestmark = pytest.mark.integration

_CALLER = "b7ad6b7169203331"
_TEXT = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
_X = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [60.0]}]}


@pytest.fixture
def trace():
    """A trace of its own for each test, and the request's headers for it."""
    trace_id = uuid4().hex
    return trace_id, {"traceparent": f"00-{trace_id}-{_CALLER}-01"}


@pytest.fixture
def arrived(served, eventually):
    """Wait for a span of a trace by its name and return it."""

    def wait(name, trace_id):
        (span,) = eventually(lambda: served.receiver.named(name, trace_id))
        return span

    return wait


def _lines(request_id):
    """Return the lines of all replicas for one request."""
    return [
        json.loads(line)
        for path in Path(get_serve_logs_dir()).glob("access_*.log")
        for line in path.read_text().splitlines()
        if request_id in line
    ]


def test_a_traced_request_is_a_child_of_its_caller_with_its_parts_below_it(served, trace, arrived):
    trace_id, headers = trace
    answer = requests.post(served.infer_url("text"), json=_TEXT, headers=headers, timeout=60)
    request = arrived("POST /v2/models/text/infer", trace_id)
    assert request.parent_span_id.hex() == _CALLER
    assert answer.headers["traceresponse"].split("-")[1:3] == [trace_id, request.span_id.hex()]
    for part in ("decode", "batch", "engine", "encode"):
        assert arrived(part, trace_id).parent_span_id == request.span_id


def test_a_v1_request_is_traced_in_its_models_replica_alone(served, trace, arrived):
    trace_id, headers = trace
    url = f"{served.url}/v1/models/text:predict"
    answer = requests.post(url, json={"instances": ["a"]}, headers=headers, timeout=60)
    assert answer.ok
    request = arrived("POST /v1/models/text:predict", trace_id)  # the one: no gateway's
    assert request.parent_span_id.hex() == _CALLER
    assert arrived("engine", trace_id).parent_span_id == request.span_id


def test_a_member_in_another_replica_is_below_the_layer_that_called_it(served, trace, arrived):
    trace_id, headers = trace
    url = served.infer_url("ensemble-deployment")
    assert requests.post(url, json=_X, headers=headers, timeout=60).ok
    for label in ("low", "high"):
        layer = arrived(f"layer {label}", trace_id)
        assert arrived(f"infer {label}", trace_id).parent_span_id == layer.span_id


def test_a_request_is_not_traced_unless_its_caller_is(served, trace, arrived):
    untraced = uuid4().hex
    for headers in ({}, {"traceparent": f"00-{untraced}-{_CALLER}-00"}):
        answer = requests.post(served.infer_url("text"), json=_TEXT, headers=headers, timeout=60)
        assert "traceresponse" not in answer.headers
    trace_id, headers = trace
    requests.post(served.infer_url("text"), json=_TEXT, headers=headers, timeout=60)
    arrived("engine", trace_id)
    assert not [span for span, _ in served.receiver.spans if span.trace_id.hex() == untraced]


@pytest.mark.parametrize(
    ("path", "body", "code", "model"),
    [
        ("/v2/models/text/infer", _TEXT, 200, "text"),
        ("/v1/models/text:predict", {"instances": ["a"]}, 200, "text"),
        ("/v2/models/text/infer", {}, 400, "text"),
        ("/v2/models/nobody/infer", _TEXT, 404, "unknown"),
        ("/v2/models/ensemble-deployment/infer", _X, 200, "ensemble-deployment"),
    ],
)
def test_every_request_is_one_line_in_the_access_log(served, eventually, path, body, code, model):
    name = uuid4().hex
    headers = {"X-Request-Id": name}
    answer = requests.post(served.url + path, json=body, headers=headers, timeout=60)
    assert answer.headers["X-Request-Id"] == name
    (line,) = eventually(lambda: _lines(name))
    assert (line["path"], line["code"], line["model"]) == (path, code, model)
    assert ("error" in line) == (code != 200)
    assert ("engine_ms" in line) == (code == 200)


def test_how_much_is_traced_changes_without_a_restart(served, eventually):
    before = _replicas(served)

    def is_traced():
        answer = requests.post(served.infer_url("text"), json=_TEXT, timeout=60)
        return "traceresponse" in answer.headers

    def trace(ratio):
        served.apply(lambda tree: tree["tracing"].update(sampling_ratio=ratio))

    assert not is_traced()
    trace(1.0)
    eventually(is_traced)
    trace(0.0)
    eventually(lambda: not is_traced())
    assert _replicas(served) == before
