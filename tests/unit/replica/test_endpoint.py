"""The paths of one model over ASGI, in front of a real batcher; the engine is numpy."""

import asyncio
import json
import logging
import threading
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serve.batching.admission import _Window
from serve.config.sections import Tracing
from serve.edge.http import HttpRequest, HttpResponse
from serve.errors import DeadlineExceeded, RepositoryError
from serve.protocols import rest_v1, rest_v2
from serve.quotas.account import Account
from serve.quotas.keeper import Keeper
from serve.replica import endpoint as endpoint_module
from serve.replica import model as model_module
from serve.telemetry.request_reporter import Reporter
from serve.telemetry.tracing import Tracer
from tests.unit.replica.fakes import (
    Doubler,
    Held,
    endpoint,
    fetch,
    infer_request,
    scope_of,
    until,
)

_MODEL = "/v2/models/digits"
_V2_BODY = infer_request(1, 2).body
_V1_BODY = b'{"instances": [1, 2]}'
_HEADER = b"inference-header-content-length"


def _served(**config):
    """Return a coroutine for an endpoint with version 1, which is `stable`, and version 3."""
    versions = {1: Doubler(1), 3: Doubler(3)}
    return endpoint(versions=versions, labels={"stable": 1}, **config)


def _fetch(request, served=None):
    async def scenario():
        app = await (served or _served())
        response = await fetch(app, request)
        assert app.in_flight == 0
        return response

    return asyncio.run(scenario())


def _get(path, served=None):
    status, headers, body = _fetch(HttpRequest("GET", _MODEL + path, {}), served)
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == b"%d" % len(body)
    return status, orjson.loads(body)


def _post(path, body, **headers):
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return _fetch(HttpRequest("POST", _MODEL + path, sent, body))


@pytest.mark.parametrize(
    ("path", "version", "factor"),
    [("/infer", "3", 3), ("/versions/1/infer", "1", 1), ("/labels/stable/infer", "1", 1)],
)
def test_v2_infers_with_the_version_of_its_path(path, version, factor):
    status, headers, body = _post(path, _V2_BODY)
    assert (status, headers[b"content-type"]) == (200, b"application/json")
    assert headers[b"server-timing"].startswith(b"queue;dur=")
    output = {"name": "y", "datatype": "FP32", "shape": [2], "data": [factor, 2 * factor]}
    expected = {"model_name": "digits", "model_version": version, "outputs": [output]}
    assert orjson.loads(body) == expected


@pytest.mark.parametrize(
    ("path", "factor"),
    [
        ("/v1:predict", 3),
        ("/v1/versions/1:predict", 1),
        ("/v1/labels/stable:predict", 1),
        ("/v1/LABELS/stable:PREDICT", 1),
    ],
)
def test_v1_predicts_with_the_version_of_its_path(path, factor):
    status, headers, body = _post(path, _V1_BODY)
    assert (status, headers[b"content-type"]) == (200, b"application/json")
    assert b"total;dur=" in headers[b"server-timing"]
    assert orjson.loads(body) == {"predictions": [factor, 2 * factor]}
    assert orjson.loads(_post(path, b'{"inputs": [1]}')[2]) == {"outputs": [factor]}


def test_binary_data_goes_both_ways_behind_its_json():
    inputs = [{"name": "x", "datatype": "FP32", "shape": [2]}]
    inputs[0]["parameters"] = {"binary_data_size": 8}
    text = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    data = np.array([1, 2], np.float32).tobytes()
    length = {"inference_header_content_length": str(len(text))}
    status, headers, body = _post("/infer", text + data, **length)
    assert (status, headers[b"content-type"]) == (200, b"application/octet-stream")
    json_length = int(headers[_HEADER])
    (output,) = orjson.loads(body[:json_length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(body[json_length:], np.float32).tolist() == [3, 6]


def test_a_body_that_is_all_data_is_the_only_input():
    data = np.array([4], np.float32).tobytes()
    status, headers, body = _post("/infer", data, inference_header_content_length="0")
    assert status == 200
    assert np.frombuffer(body[int(headers[_HEADER]) :], np.float32).tolist() == [12]


@pytest.mark.parametrize("path", ["", "/versions/3", "/versions/1", "/labels/stable"])
def test_v2_metadata_tells_versions_and_tensors(path):
    x, y = ({"name": name, "datatype": "FP32", "shape": [-1]} for name in "xy")
    metadata = {"name": "digits", "versions": ["1", "3"], "platform": "numpy"}
    metadata["properties"] = {
        "rows": "independent",
        "rows_reason": "",
        "engine": "tensorflow",
        "engine_reason": "set by a test",
    }
    assert _get(path) == (200, {**metadata, "inputs": [x], "outputs": [y]})


@pytest.mark.parametrize("path", ["/ready", "/versions/1/ready", "/labels/stable/ready"])
def test_v2_says_that_a_loaded_version_is_ready(path):
    assert _get(path) == (200, {"name": "digits", "ready": True})


@pytest.mark.parametrize(
    ("below", "version"), [("", "3"), ("/versions/1", "1"), ("/labels/stable", "1")]
)
def test_a_document_for_tools_has_the_tensors_of_the_version_of_its_path(below, version):
    status, document = _get(f"{below}/openapi.json")
    assert (status, document["info"]["version"]) == (200, version)
    assert {f"{_MODEL}{below}/infer", f"/v1/models/digits{below}:predict"} <= set(document["paths"])
    inputs = document["components"]["schemas"]["InferRequest"]["properties"]["inputs"]
    assert inputs["items"]["properties"]["name"] == {"const": "x"}


@pytest.mark.parametrize(
    ("path", "version"),
    [("/v1/metadata", "3"), ("/v1/versions/1/metadata", "1"), ("/v1/labels/stable/metadata", "1")],
)
def test_v1_metadata_is_of_the_version_of_its_path(path, version):
    status, metadata = _get(path)
    assert (status, metadata["model_spec"]["version"]) == (200, version)
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert set(signatures["serving_default"]["inputs"]) == {"x"}


def _states(path, served=None):
    status, document = _get(path, served)
    assert status == 200
    versions = document["model_version_status"]
    return [(one["version"], one["state"], one["status"]["error_message"]) for one in versions]


def test_v1_status_tells_of_every_version_and_why_one_could_not_be_loaded():
    broken = {1: Doubler(), 2: RepositoryError("cut off"), 3: Doubler()}
    assert _states("/v1", endpoint(versions=broken)) == [
        ("3", "AVAILABLE", ""),
        ("2", "END", "cut off"),
        ("1", "AVAILABLE", ""),
    ]
    somewhere = {1: Doubler(), 2: RepositoryError("'/srv/models/digits/2' is cut off")}
    assert ("2", "END", "'2' is cut off") in _states("/v1", endpoint(versions=somewhere))
    assert _states("/v1/versions/3", endpoint(versions=broken)) == [("3", "AVAILABLE", "")]
    assert _states("/v1/labels/stable") == [("1", "AVAILABLE", "")]


@pytest.mark.parametrize("version", ["versions/2", "labels/canary"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/{}/infer"),
        ("GET", "/{}"),
        ("GET", "/{}/ready"),
        ("GET", "/{}/openapi.json"),
        ("POST", "/v1/{}:predict"),
        ("GET", "/v1/{}"),
        ("GET", "/v1/{}/metadata"),
    ],
)
def test_a_version_or_label_that_is_not_there_is_a_404(method, path, version):
    request = HttpRequest(method, _MODEL + path.format(version), {}, b"")
    status, headers, body = _fetch(request)
    assert status == 404
    assert b"server-timing" not in headers
    assert version.split("/")[1] in orjson.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/infer", b"POST, OPTIONS"),
        ("PUT", "/versions/1/infer", b"POST, OPTIONS"),
        ("POST", "", b"GET, HEAD, OPTIONS"),
        ("POST", "/ready", b"GET, HEAD, OPTIONS"),
        ("DELETE", "/labels/stable", b"GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_on_a_v2_path_is_a_405_that_names_the_right_one(method, path, allowed):
    status, headers, _ = _fetch(HttpRequest(method, _MODEL + path, {}))
    assert (status, headers[b"allow"]) == (405, allowed)
    status, headers, body = _fetch(HttpRequest("OPTIONS", _MODEL + path, {}))
    assert (status, headers[b"allow"], body) == (204, allowed, b"")
    assert b"content-length" not in headers


@pytest.mark.parametrize("path", ["", "/ready", "/versions/1", "/v1", "/v1/metadata"])
def test_head_is_answered_as_get_is(path):
    """The server in front leaves the body out."""
    got, head = (_fetch(HttpRequest(method, _MODEL + path, {})) for method in ("GET", "HEAD"))
    assert head == got
    assert head[0] == 200


@pytest.mark.parametrize("path", ["/nothing", "/infer/", "/versions/one/infer", "/v2"])
def test_a_v2_path_that_is_not_there_is_a_404(path):
    assert _post(path, _V2_BODY)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1:predict", 400),
        ("POST", "/v1", 400),
        ("POST", "/v1/metadata", 400),
        ("POST", "/v1:explain", 400),
        ("POST", "/v1:classify", 501),
        ("POST", "/v1:regress", 501),
    ],
)
def test_v1_refuses_what_it_does_not_know_as_tensorflow_serving_does(method, path, status):
    got, headers, body = _fetch(HttpRequest(method, _MODEL + path, {}, _V1_BODY))
    assert (got, headers[b"content-type"]) == (status, b"application/json")
    public = path.replace("/v1", "/v1/models/digits", 1)
    said = orjson.loads(body)["error"]
    assert public in said if status == 400 else "use :predict" in said


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/infer", b"{", {}),
        ("/infer", _V1_BODY, {}),
        ("/infer", _V2_BODY, {"inference_header_content_length": "ten"}),
        ("/infer", infer_request(1).body.replace(b"FP32", b"FP64"), {}),
        ("/v1:predict", b"{", {}),
        ("/v1:predict", b'{"instances": ["a"]}', {}),
    ],
)
def test_a_body_that_does_not_fit_is_a_400(path, body, headers):
    status, sent, response = _post(path, body, **headers)
    assert (status, sent[b"content-type"]) == (400, b"application/json")
    assert orjson.loads(response)["error"]
    assert b"server-timing" not in sent


@pytest.mark.parametrize("declared", [{}, {"content_length": "20000"}])
@pytest.mark.parametrize("path", ["/infer", "/v1:predict"])
def test_a_body_that_is_too_large_is_a_413_and_is_counted(path, declared):
    async def scenario():
        app = await endpoint()
        body = b" " * 20_000 if not declared else b""
        request = infer_request(1, path=_MODEL + path, **declared)
        request = HttpRequest("POST", request.path, request.headers, body)
        response = await fetch(app, request)
        protocol = "v1" if "v1" in path else "v2"
        recorder = app._model._recorder
        return (
            app.in_flight,
            response,
            recorder.value("model_requests", code="413", protocol=protocol, version="none"),
        )

    in_flight, (status, headers, body), counted = asyncio.run(scenario())
    assert (in_flight, status, counted) == (0, 413, 1)
    assert headers[b"content-type"] == b"application/json"
    assert "limits.max_body_bytes" in orjson.loads(body)["error"]


def test_a_full_queue_is_a_429_that_says_when_to_come_back():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine, limits={"max_queued_requests": 1})
        running = asyncio.create_task(fetch(app, infer_request(1)))
        await asyncio.to_thread(engine.entered.wait)
        waiting = asyncio.create_task(fetch(app, infer_request(2)))
        await until(lambda: app._model.versions[3].batcher.queued == 1)
        refused = await fetch(app, infer_request(3))
        engine.goes_on.set()
        return refused, await running, await waiting

    (status, headers, _), *others = asyncio.run(scenario())
    assert (status, headers[b"retry-after"]) == (429, b"1")
    assert [status for status, *_ in others] == [200, 200]


def _overloaded(app):
    """Have a replica be in an overload: it knows how long calls take, and too many came."""
    admission = app._model.versions[3].batcher.admission
    for _ in range(8):
        admission.pace.learn(1, 1, 1.0, 10.0)
    admission._overload = _Window(admission._clock())


def test_an_overloaded_replica_refuses_before_it_reads_a_body():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine)
        running = [asyncio.create_task(fetch(app, infer_request(1)))]
        await asyncio.to_thread(engine.entered.wait)
        running += [asyncio.create_task(fetch(app, infer_request(n))) for n in range(2, 10)]
        await until(lambda: app._model.versions[3].batcher.queued >= 8)
        _overloaded(app)
        request = infer_request(1)
        scope = {
            "type": "http",
            "method": "POST",
            "path": request.path,
            "headers": list(request.headers.items()),
        }
        sent = []

        async def send(message):
            sent.append(message)

        async def receive():
            raise AssertionError("its body was asked for")

        await app(scope, receive, send)
        ready = await fetch(app, HttpRequest("GET", f"{request.path.removesuffix('/infer')}", {}))
        engine.goes_on.set()
        await asyncio.gather(*running)
        return sent, ready[0]

    (start, body), ready = asyncio.run(scenario())
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (429, b"1")
    assert "limits.max_queue_wait_s" in orjson.loads(body["body"])["error"]
    assert ready == 200


@pytest.mark.parametrize("value", [b"batch", b"interactive"])
def test_the_header_of_a_request_tells_its_priority(value):
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine)
        running = asyncio.create_task(fetch(app, infer_request(1)))
        await asyncio.to_thread(engine.entered.wait)
        request = infer_request(2)
        request.headers[b"x-priority"] = value
        waiting = asyncio.create_task(fetch(app, request))
        queue = app._model.versions[3].batcher._queue
        await until(lambda: len(queue) == 1)
        requests = {"interactive": queue.interactive.requests, "batch": queue.batch.requests}
        engine.goes_on.set()
        await asyncio.gather(running, waiting)
        return requests

    assert asyncio.run(scenario())[value.decode()] == 1


def test_a_priority_that_there_is_not_is_a_400():
    request = infer_request(1)
    request.headers[b"x-priority"] = b"urgent"
    status, _, body = _fetch(request)
    assert status == 400
    assert "X-Priority" in orjson.loads(body)["error"]


def test_a_model_without_a_version_is_a_503_that_says_when_to_come_back():
    status, headers, body = _fetch(infer_request(1), endpoint(versions={}))
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert "publish one" in orjson.loads(body)["error"]


def test_a_request_that_takes_too_long_is_a_504():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine, limits={"request_timeout_s": 0.01})
        try:
            return await fetch(app, infer_request(1)), app.in_flight
        finally:
            engine.goes_on.set()

    (status, *_), in_flight = asyncio.run(scenario())
    assert (status, in_flight) == (504, 0)


def test_a_client_may_allow_less_time_by_a_header_in_both_protocols():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine)
        try:
            v2 = infer_request(1, grpc_timeout="10m")
            v1 = HttpRequest("POST", _MODEL + "/v1:predict", {b"grpc-timeout": b"10m"}, _V1_BODY)
            return [await fetch(app, v2), await fetch(app, v1)]
        finally:
            engine.goes_on.set()

    for status, _, body in asyncio.run(scenario()):
        assert status == 504
        assert "no answer within 0.01 s" in orjson.loads(body)["error"]


def test_a_part_of_the_model_that_was_late_is_named():
    class Late(Doubler):
        def infer(self, signature, inputs):
            raise DeadlineExceeded("layer 'large' took longer than 0.05 s")

    status, _, body = _fetch(infer_request(1), endpoint(Late()))
    assert (status, orjson.loads(body)["error"]) == (504, "layer 'large' took longer than 0.05 s")


def test_a_header_of_the_client_that_cannot_be_read_is_a_400():
    assert _post("/infer", _V2_BODY, grpc_timeout="soon")[0] == 400


def test_the_time_that_a_body_takes_counts():
    async def scenario():
        app = await endpoint(limits={"request_timeout_s": 0.05})
        statuses = []

        async def receive():
            await asyncio.to_thread(threading.Event().wait, 0.03)
            return {"type": "http.request", "body": b"{", "more_body": True}

        async def send(message):
            statuses.append(message.get("status"))

        await app(scope_of(infer_request(1)), receive, send)
        return statuses[0], app.in_flight

    assert asyncio.run(scenario()) == (504, 0)


def test_a_client_that_hangs_up_is_not_computed_for():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine, batching={"max_batch_size": 1})
        running = asyncio.create_task(fetch(app, infer_request(1)))
        await asyncio.to_thread(engine.entered.wait)
        messages = [{"type": "http.request", "body": _V2_BODY}, {"type": "http.disconnect"}]

        async def receive():
            return messages.pop(0)

        batcher = app._model.versions[3].batcher
        gone = asyncio.create_task(app(scope_of(infer_request(7)), receive, None))
        await gone  # without an answer, which nobody would hear
        waiting = batcher.queued
        engine.goes_on.set()
        await running
        recorder = app._model._recorder
        counted = recorder.value(
            "model_requests", code="499", protocol="v2", version="3", tenant="none"
        )
        return waiting, app.in_flight, counted

    assert asyncio.run(scenario()) == (0, 0, 1)


@pytest.fixture
def codecs(monkeypatch):
    """Return, of each call of a codec, whether it was on the event loop's thread."""
    on_loop = []

    def note(module, name):
        work = getattr(module, name)

        def noted(*args, **more):
            on_loop.append(threading.current_thread() is threading.main_thread())
            return work(*args, **more)

        monkeypatch.setattr(module, name, noted)

    for module, names in (
        (rest_v2, ("decode_request", "encode_response")),
        (rest_v1, ("decode_predict", "encode_predict")),
    ):
        for name in names:
            note(module, name)
    return on_loop


@pytest.mark.parametrize(("rows", "on_loop"), [(2, True), (100_000, False)])
@pytest.mark.parametrize("path", ["/infer", "/v1:predict"])
def test_large_bodies_are_read_and_written_beside_the_event_loop(codecs, path, rows, on_loop):
    values = range(40, 40 + rows)
    body = infer_request(*values).body
    if path != "/infer":
        body = json.dumps({"instances": list(values)}).encode()

    async def scenario():
        app = await endpoint()
        app._max_body_bytes = 10**7
        return await fetch(app, HttpRequest("POST", _MODEL + path, {}, body))

    assert asyncio.run(scenario())[0] == 200
    assert codecs == [on_loop, on_loop]


def _waiting(monkeypatch, at):
    """Return events of when a request has come to a place of its way, and of when it may go on."""
    owner, name = {
        "decoding": (endpoint_module, "off_loop"),
        "counting": (Account, "admit"),
    }[at]
    work = getattr(owner, name)
    came, goes_on = asyncio.Event(), asyncio.Event()

    async def waiting(*args):
        came.set()
        await goes_on.wait()
        return await work(*args)

    monkeypatch.setattr(owner, name, waiting)
    return came, goes_on


@pytest.mark.parametrize(("at", "rows"), [("decoding", 100_000), ("counting", 2)])
def test_a_version_that_is_unloaded_meanwhile_answers_who_has_chosen_it(monkeypatch, at, rows):
    async def scenario():
        kept = _Kept({"rows_per_s": 10**6})
        app = await kept.endpoint()
        app._max_body_bytes = 10**7
        came, goes_on = _waiting(monkeypatch, at)
        asked = asyncio.create_task(fetch(app, _of_tenant("/infer", **_json_v2(rows))))
        await came.wait()
        app._model.versions[3].close()
        goes_on.set()
        return await asked

    status, _, body = asyncio.run(scenario())
    assert status == 200, body


def test_a_model_that_fails_is_a_500_and_its_cause_is_in_the_log_alone(caplog):
    class Raises(Doubler):
        def infer(self, signature, inputs):
            raise ZeroDivisionError("the secret")

    with caplog.at_level(logging.ERROR, "ray.serve"):
        status, headers, body = _fetch(infer_request(1), endpoint(Raises()))
    assert status == 500
    assert "secret" not in orjson.loads(body)["error"]
    assert b"server-timing" not in headers
    (record,) = caplog.records
    assert str(record.exc_info[1]) == "the secret"


async def _hang_up(app, after):
    """Send this much of a request's body and hang up; return what was sent back."""
    sent = []
    messages = [{"type": "http.request", "body": after, "more_body": True}] if after else []
    messages.append({"type": "http.disconnect"})

    async def receive():
        assert app.in_flight == 1
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope_of(infer_request(1)), receive, send)
    return sent


@pytest.mark.parametrize("after", [b"", b'{"inputs"'])
def test_a_client_that_hangs_up_before_its_body_is_there_gets_nothing_and_counts_nothing(after):
    async def scenario():
        app = await endpoint()
        sent = await _hang_up(app, after)
        return app.in_flight, sent, app._model._recorder.value("model_requests")

    assert asyncio.run(scenario()) == (0, [], None)


def test_a_request_whose_task_is_cancelled_is_no_longer_in_flight():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine)
        asked = asyncio.create_task(fetch(app, infer_request(1)))
        await asyncio.to_thread(engine.entered.wait)
        while_asked = app.in_flight
        asked.cancel()
        await asyncio.wait([asked])
        engine.goes_on.set()
        return while_asked, app.in_flight

    assert asyncio.run(scenario()) == (1, 0)


class Unforeseen(Doubler):
    """A Doubler whose signatures, once it is armed, raise what no code expects."""

    is_armed = False

    @property
    def signatures(self):
        if self.is_armed:
            raise ZeroDivisionError("injected")
        return self._signatures

    @signatures.setter
    def signatures(self, value):
        self._signatures = value


@pytest.mark.parametrize("path", ["/infer", "/v1:predict"])
def test_what_nobody_foresaw_is_a_500_in_json_with_the_requests_id(path, caplog):
    body = _V1_BODY if path.startswith("/v1") else _V2_BODY
    request = HttpRequest("POST", _MODEL + path, {b"x-request-id": b"seven"}, body)

    async def scenario():
        engine = Unforeseen()
        app = await endpoint(engine)
        engine.is_armed = True
        answers = [await fetch(app, request), await fetch(app, request)]
        return answers, app

    with caplog.at_level(logging.ERROR, "ray.serve"):
        answers, app = asyncio.run(scenario())
    for status, headers, answer in answers:
        assert (status, headers[b"content-type"]) == (500, b"application/json")
        assert "(ZeroDivisionError); its log has the details of request seven" in answer.decode()
        assert "injected" not in answer.decode()
    assert app.in_flight == 0
    assert app._metrics._recorder.value("model_requests", code="500", version="3") == 2
    assert app.request_faults.take() == 2
    assert len(caplog.records) == 2
    assert all(record.exc_info for record in caplog.records)
    assert "'seven'" in caplog.text


def test_an_error_that_cannot_be_written_is_a_500_like_any_other(monkeypatch):
    def broken(err):
        raise TypeError("surrogates not allowed")

    monkeypatch.setattr(endpoint_module, "error_response", broken)
    status, _, body = _post("/labels/nobody/infer", _V2_BODY)
    assert (status, "(TypeError)" in body.decode()) == (500, True)


def test_a_body_that_cannot_be_received_is_a_500_and_counted(caplog):
    async def scenario():
        app, sent = await endpoint(), []

        async def receive():
            raise ZeroDivisionError

        async def send(message):
            sent.append(message)

        await app(scope_of(infer_request(1)), receive, send)
        answer = await app.respond(HttpRequest("POST", _MODEL + "/infer", {}, None))
        return sent[0]["status"], answer.status, app

    *statuses, app = asyncio.run(scenario())
    assert statuses == [500, 500]
    assert app.in_flight == 0
    assert app._metrics._recorder.value("model_requests", code="500") == 2


def test_a_value_that_the_model_refuses_is_a_400_for_its_sender_alone(caplog):
    good = infer_request(1)
    bad = infer_request(30)
    over_v1 = HttpRequest("POST", _MODEL + "/v1:predict", {}, b'{"instances": [30]}')

    async def scenario():
        app = await endpoint()
        asked = (app.respond(request) for request in (good, bad, over_v1, good))
        return await asyncio.gather(*asked), app

    with caplog.at_level(logging.WARNING, "ray.serve"):
        answers, app = asyncio.run(scenario())
    assert [answer.status for answer in answers] == [200, 400, 400, 200]
    for answer in answers[1:3]:
        assert orjson.loads(answer.body) == {"error": "30 is not in [0, 10)"}
    assert app._metrics._recorder.value("model_requests", code="500") == 0
    assert caplog.text == ""


@pytest.mark.parametrize("part", ["begin", "end", "record"])
def test_what_fails_beside_a_request_leaves_its_answer_alone(part, caplog):
    def boom(*_):
        raise ZeroDivisionError("injected")

    async def scenario():
        app = await endpoint()
        app.reporter = SimpleNamespace(
            begin=boom if part == "begin" else lambda request, started: None,
            end=boom if part == "end" else lambda traced, exchange: None,
        )
        if part == "record":
            app._metrics.record = boom
        return [(await fetch(app, infer_request(1)))[0] for _ in range(3)], app

    statuses, app = asyncio.run(scenario())
    assert statuses == [200, 200, 200]
    assert app.report_faults.take() == 3
    assert caplog.text.count("said once") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('"shape":[0,9223372036854775808],"data":[]', "too many elements"),
        ('"shape":[0,4611686018427387904,8],"data":[]', "too many elements"),
        ('"shape":[1],"data":[1' + "0" * 5_000 + "]", ""),
    ],
)
def test_numbers_beyond_all_bounds_are_the_clients_mistake(text, said):
    body = b'{"inputs":[{"name":"x","datatype":"FP32",%s}]}' % text.encode()
    status, _, answer = _post("/infer", body)
    assert status == 400
    assert said in orjson.loads(answer)["error"]


def test_headers_and_timeouts_of_thousands_of_digits_are_the_clients_mistake():
    digits = "9" * 5_000
    assert _post("/infer", _V2_BODY, inference_header_content_length=digits)[0] == 400
    assert _post("/infer", _V2_BODY, content_length=digits)[0] == 400
    body = _V2_BODY.replace(b"[1, 2]", b"[1, NaN]")
    body = body.replace(b'{"inputs"', b'{"parameters": {"timeout": %s}, "inputs"' % digits.encode())
    assert _post("/infer", body)[0] == 400
    short = body.replace(digits.encode(), digits.encode()[:400])
    assert _post("/infer", short)[0] == 400


_PATHS = st.sampled_from(
    " /infer /ready /v1 /v1:predict /v1/metadata /v1/versions/3:predict /versions/3/infer "
    f"/labels/x/infer /versions/{'9' * 30}".split(" ")
)
_NAMES = st.sampled_from(
    b"content-length content-encoding accept-encoding x-request-id traceparent tracestate "
    b"inference-header-content-length content-type timeout".split()
)
_VALUES = st.one_of(
    st.binary(max_size=60),
    st.from_regex(rb"\A[0-9]{1,3}\Z"),
    st.sampled_from([b"gzip", b"deflate", b"gzip;q=nan", b"1" * 5_000, b"\xff", b"identity"])
    | st.from_regex(rb"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{2})?\Z"),
)
_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.floats(),
        st.integers(-(10**30), 10**30),
        st.sampled_from([2**31, 2**63, 2**64, 10**400, "x", "FP32", "BYTES", "\ud800", "INT8"]),
        st.text(max_size=5),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "inputs",
                    "name",
                    "datatype",
                    "shape",
                    "data",
                    "parameters",
                    "timeout",
                    "outputs",
                    "id",
                    "binary_data_size",
                    "instances",
                    "signature_name",
                    "b64",
                    "binary_data",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@st.composite
def _bodies(draw):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    tensor[draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]))] = draw(_JSON)
    document = draw(
        st.one_of(
            st.just({"inputs": [tensor]}),
            st.builds(lambda value: {"inputs": [tensor], "parameters": {"timeout": value}}, _JSON),
            st.builds(lambda value: {"instances": value}, _JSON),
            st.builds(lambda value: {"inputs": value}, _JSON),
            _JSON,
        )
    )
    return json.dumps(document).encode()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.one_of(_PATHS, st.text(max_size=20)),
    st.dictionaries(_NAMES, _VALUES, max_size=4),
    st.one_of(_bodies(), st.binary(max_size=80)),
)
def test_whatever_is_sent_is_answered_without_a_500_and_counted_once(method, path, headers, body):
    request = HttpRequest(method, _MODEL + path, headers, body)
    tracing = Tracing(sampling_ratio=0.5)
    tracer = Tracer(tracing, "digits", "r1", SimpleSpanProcessor(InMemorySpanExporter()))

    async def scenario():
        app = await _served()
        app.reporter = Reporter(tracing, tracer, None)
        direct = (await fetch(app, request))[0]
        passed_on = (await app.respond(request)).status
        return direct, passed_on, app

    *statuses, app = asyncio.run(scenario())
    assert not {status for status in statuses if status >= 500} - {501, 504}, statuses
    assert app._metrics._recorder.value("model_requests") == 2
    assert (app.request_faults.take(), app.report_faults.take(), app.in_flight) == (0, 0, 0)


def test_requests_from_the_gateway_count_like_those_from_the_ingress():
    engine = Held("infer")

    async def scenario():
        app = await endpoint(engine)
        asked = asyncio.create_task(app.respond(infer_request(1)))
        await asyncio.to_thread(engine.entered.wait)
        also = asyncio.create_task(fetch(app, infer_request(2)))
        await until(lambda: app.in_flight == 2)
        engine.goes_on.set()
        response = await asked
        await also
        counted = app._model._recorder.value("model_requests", code="200", version="3")
        return response, app.in_flight, counted

    response, in_flight, counted = asyncio.run(scenario())
    assert isinstance(response, HttpResponse)
    assert (response.status, in_flight, counted) == (200, 0, 2)


def test_what_is_no_http_request_is_left_alone():
    async def scenario():
        await (await endpoint())({"type": "lifespan"}, None, None)

    asyncio.run(scenario())


class _Kept:
    """The quotas of a model by a real keeper, whose rows are of a replica that began long ago."""

    def __init__(self, *quotas):
        async def nobody(report):
            return None

        self.keeper = Keeper("r", nobody)
        started = self.keeper.local._born
        self.keeper.local._clock = lambda: started + 10
        self.tree = {"quotas": list(quotas), "counts": {}, "replicas": {}}

    async def endpoint(self, **config):
        app = await _served(**config)
        await self.keeper.apply(self.tree, ["digits"], "x-tenant")
        app.quotas = self.keeper.of("digits")
        return app


def _kept(requests, *quotas, **config):
    """Return status, headers and body of the requests, one after the other."""

    async def scenario():
        app = await _Kept(*quotas).endpoint(**config)
        return [await fetch(app, request) for request in requests], app._metrics._recorder

    return asyncio.run(scenario())


def _of_tenant(path, body, tenant="web", **headers):
    sent = {b"x-tenant": tenant.encode()}
    sent |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return HttpRequest("POST", _MODEL + path, sent, body)


def _binary(rows):
    size = {"binary_data_size": 4 * rows}
    inputs = [{"name": "x", "datatype": "FP32", "shape": [rows], "parameters": size}]
    text = json.dumps({"inputs": inputs}).encode()
    body = text + np.zeros(rows, np.float32).tobytes()
    return {"body": body, "inference_header_content_length": str(len(text))}


def _json_v2(rows):
    return {"body": infer_request(*range(100, 100 + rows)).body}


def _json_v1(rows):
    return {"body": json.dumps({"instances": list(range(rows))}).encode()}


@pytest.mark.parametrize(
    ("path", "made"), [("/infer", _binary), ("/infer", _json_v2), ("/v1:predict", _json_v1)]
)
def test_rows_are_counted_in_both_protocols_and_both_forms(path, made):
    requests = [_of_tenant(path, **made(3)), _of_tenant(path, **made(3))]
    ((first, headers, said), (second, refused, body)), recorder = _kept(requests, {"rows_per_s": 4})
    assert first == 200, said
    assert (first, headers[b"ratelimit-policy"]) == (200, b'"rows";q=4;w=1')
    assert headers[b"ratelimit"] == b'"rows";r=1;t=1'
    assert b"retry-after" not in headers
    assert (second, refused[b"retry-after"]) == (429, b"1")
    assert refused[b"ratelimit"].startswith(b'"rows";r=')
    assert refused[b"content-type"] == b"application/json"
    assert orjson.loads(body)["error"].startswith("the tenant web may send 4 rows a second; ")
    assert recorder.value("model_quota_refusals", reason="rows_per_s", tenant="other") == 1
    codes = [recorder.value("model_requests", code=code, tenant="other") for code in ("200", "429")]
    assert codes == [1, 0], "what is above a quota is no error of the model"


def test_a_request_that_never_fits_is_told_so_and_not_to_come_back():
    requests = [_of_tenant("/infer", **_json_v2(5)), _of_tenant("/infer", **_json_v2(4))]
    ((status, headers, body), (after, *_)), _ = _kept(requests, {"rows_per_s": 4})
    assert (status, after) == (429, 200)
    assert b"retry-after" not in headers
    assert "a request of 5 rows is never let through" in orjson.loads(body)["error"]


def test_what_cannot_be_computed_takes_no_rows():
    broken = _of_tenant("/infer", b"{")
    ill = {"inputs": [{"name": "z", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]}
    unfit = _of_tenant("/infer", json.dumps(ill).encode())
    whole = _of_tenant("/infer", **_json_v2(4))
    responses, _ = _kept([broken, unfit, whole], {"rows_per_s": 4})
    assert [status for status, *_ in responses] == [400, 400, 200]


def test_a_request_without_rows_counts_as_the_call_that_it_is():
    requests = [_of_tenant("/infer", **_binary(0)) for _ in range(3)]
    responses, _ = _kept(requests, {"rows_per_s": 2})
    assert [status for status, *_ in responses] == [200, 200, 429]


def test_only_inferences_of_who_has_a_quota_are_counted():
    requests = [
        HttpRequest("GET", _MODEL, {b"x-tenant": b"web"}),
        _of_tenant("/infer", **_json_v2(4), tenant="lab"),
        _of_tenant("/infer", **_json_v2(4)),
    ]
    responses, _ = _kept(requests, {"tenant": "web", "rows_per_s": 0})
    assert [status for status, *_ in responses] == [200, 200, 429]
    assert b"ratelimit" not in responses[1][1]


def test_seconds_of_compute_are_charged_once_they_were_computed():
    requests = [_of_tenant("/infer", **_json_v2(1)) for _ in range(2)]
    responses, recorder = _kept(requests, {"compute_s_per_day": 1e-9})
    assert [status for status, *_ in responses] == [200, 429]
    headers = responses[1][1]
    assert 0 < int(headers[b"retry-after"]) <= 86_400
    assert b'"compute-seconds";r=0;t=' in headers[b"ratelimit"]
    assert recorder.value("model_quota_refusals", reason="compute_s_per_day", tenant="other") == 1


def test_a_client_that_hangs_up_is_charged_all_the_same():
    engine = Held("infer")

    async def scenario():
        kept = _Kept({"compute_s_per_day": 1e-9})
        app = await endpoint(engine, batching={"max_batch_size": 4})
        await kept.keeper.apply(kept.tree, ["digits"], "x-tenant")
        app.quotas = kept.keeper.of("digits")
        first = _of_tenant("/infer", **_json_v2(1))
        gone = asyncio.create_task(fetch(app, first))
        other = asyncio.create_task(fetch(app, _of_tenant("/infer", **_json_v2(1), tenant="x")))
        await asyncio.to_thread(engine.entered.wait)
        gone.cancel()
        engine.goes_on.set()
        await other
        return await fetch(app, first)

    assert asyncio.run(scenario())[0] == 429


def test_the_time_that_counting_takes_counts(monkeypatch):
    async def scenario():
        kept = _Kept({"rows_per_s": 7})
        app = await kept.endpoint()
        take, clock = kept.keeper.take, SimpleNamespace(passed_s=0.0)

        async def late(limits, rows):
            clock.passed_s += 100.0
            return await take(limits, rows)

        monkeypatch.setattr(kept.keeper, "take", late)
        clock.perf_counter = lambda: clock.passed_s
        monkeypatch.setattr(model_module, "time", clock)
        status, _, body = await fetch(app, _of_tenant("/infer", **_json_v2(1)))
        return status, body, kept.keeper.local._buckets.popitem()[1].left

    status, body, left = asyncio.run(scenario())
    assert (status, left) == (504, 7), body


def test_rows_that_the_queue_had_no_room_for_come_back():
    engine = Held("infer")

    async def scenario():
        kept = _Kept({"rows_per_s": 7})
        app = await endpoint(
            engine, batching={"max_batch_size": 1}, limits={"max_queued_requests": 1}
        )
        await kept.keeper.apply(kept.tree, ["digits"], "x-tenant")
        app.quotas = kept.keeper.of("digits")
        ask = _of_tenant("/infer", **_json_v2(1))
        batcher = app._model.versions[3].batcher
        tasks = []
        # One is computed, one is ahead of the engine, one waits.
        for running, queued in ((1, 0), (2, 0), (2, 1)):
            tasks.append(asyncio.create_task(fetch(app, ask)))
            await until(lambda: (batcher._running, batcher.queued) == (running, queued))  # noqa: B023
        # As the gateway brings it: what comes by itself is refused before it is read.
        status = (await app.respond(ask)).status
        left = kept.keeper.local._buckets.popitem()[1].left
        engine.goes_on.set()
        await asyncio.gather(*tasks)
        return status, left

    status, left = asyncio.run(scenario())
    assert (status, left) == (429, 4)


def test_counts_that_are_away_refuse_only_where_that_is_wanted():
    async def scenario(when_uncounted):
        kept = _Kept({"rows_per_s": 9})
        away = {"redis": "redis://127.0.0.1:1/0", "when_uncounted": when_uncounted}
        kept.tree["counts"] = away
        app = await kept.endpoint()
        status, headers, _ = await fetch(app, _of_tenant("/infer", **_json_v2(1)))
        await kept.keeper.shared.close()
        return status, headers.get(b"retry-after"), app._metrics._recorder

    for when_uncounted, expected in (("allow", (200, None)), ("refuse", (503, b"1"))):
        *told, recorder = asyncio.run(scenario(when_uncounted))
        assert tuple(told) == expected
        assert recorder.value("model_quota_uncounted") == 1
        assert recorder.value("model_requests", code=str(expected[0])) == 1
