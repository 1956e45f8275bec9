"""The gateway and the replica behind it tell of one request together."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from serve.edge.http import HttpRequest
from serve.pipelines import remote as replicas
from serve.replica import application_states
from serve.replica.gateway import Gateway
from serve.telemetry.metrics_recorder import Recorder
from serve.telemetry.request_reporter import Replica, reporter_for
from serve.types import InferRequest, InferResponse
from tests.unit.replica.fakes import call, endpoint, infer_request
from tests.unit.telemetry.test_tracing import CALLER, SAMPLED, Collected


@pytest.fixture
def through(monkeypatch, tmp_path):
    """Send a request through a gateway to the model digits; both tell of it, here.

    Returns the answer's status and headers, the traces of both and their lines.
    """

    def send(request):
        at_gateway, at_model = Collected(1.0), Collected(0.0)

        async def scenario():
            served = await endpoint()
            gateway = Gateway(Recorder("gateway"))
            gateway.apply(("digits",))
            reporters = []
            for app, collected, name in ((gateway, at_gateway, "gateway"), (served, at_model, "m")):
                app.reporter = reporter_for(
                    {"access_log": True}, Replica(name, "r1", tmp_path), None
                )
                app.reporter.tracer = collected.reporter.tracer
                reporters.append(app.reporter)

            async def remote(passed):
                # In a task of its own, as in another process.
                return await asyncio.create_task(served.respond(passed))

            status = SimpleNamespace(
                applications={
                    "digits": SimpleNamespace(
                        status=SimpleNamespace(value="RUNNING"),
                        deployments={"model": SimpleNamespace(replica_states={"RUNNING": 1})},
                    )
                }
            )
            handle = SimpleNamespace(handle_http=SimpleNamespace(remote=remote))
            fake = SimpleNamespace(
                status=lambda: status, get_deployment_handle=lambda *args, **kwargs: handle
            )
            monkeypatch.setattr(replicas, "ray_serve", fake)
            monkeypatch.setattr(application_states, "ray_serve", fake)
            answer = await call(gateway, request)
            for reporter in reporters:
                reporter.access_log.close()
            return answer

        answer = asyncio.run(scenario())
        lines = {
            path.name.split("_")[1]: [json.loads(line) for line in path.read_text().splitlines()]
            for path in tmp_path.iterdir()
        }
        return answer, at_gateway, at_model, lines

    return send


def _v1(path, **headers):
    sent = {name.encode(): value.encode() for name, value in headers.items()}
    return HttpRequest("POST", path, sent, b'{"instances": [1.0]}')


def test_a_v1_request_is_one_trace_and_one_line(through):
    request = _v1("/v1/models/digits:predict", traceparent=SAMPLED)
    (status, headers), at_gateway, at_model, lines = through(request)
    assert status == 200
    first, second = at_gateway.request, at_model.request
    assert f"{first.parent.span_id:016x}" == CALLER
    assert second.parent.span_id == first.context.span_id
    assert second.context.trace_id == first.context.trace_id
    assert first.name == second.name == "POST /v1/models/digits:predict"
    assert headers[b"traceresponse"].split(b"-")[2].decode() == f"{first.context.span_id:016x}"
    assert list(lines) == ["m"]
    assert [line["path"] for line in lines["m"]] == ["/v1/models/digits:predict"]


def test_what_the_gateway_does_not_trace_the_model_does_not_either(through):
    request = _v1("/v1/models/digits:predict", traceparent=SAMPLED[:-1] + "0")
    _, at_gateway, at_model, _ = through(request)
    assert not at_gateway.spans
    assert not at_model.spans


def test_a_model_that_nobody_has_is_told_by_the_gateway_under_one_name(through):
    request = infer_request(1, path="/v2/models/secret-4711/infer")
    (status, _), at_gateway, at_model, lines = through(request)
    assert status == 404
    assert not at_model.spans
    assert at_gateway.request.name == "POST /v2/models/{model}/infer"
    (line,) = lines["gateway"]
    assert (line["model"], line["path"]) == ("unknown", "/v2/models/secret-4711/infer")
    assert "secret-4711" in line["error"]


def test_a_body_that_the_gateway_refuses_is_a_line(through):
    request = _v1("/v1/models/digits:predict", **{"content-length": str(10**9)})
    (status, _), at_gateway, _, lines = through(request)
    assert status == 413
    assert at_gateway.request.attributes["http.response.status_code"] == 413
    assert [line["code"] for line in lines["gateway"]] == [413]


@pytest.mark.parametrize("part", ["start", "finish"])
def test_a_pipelines_call_is_answered_though_its_trace_fails(part, monkeypatch, caplog):
    def boom(*_):
        raise ZeroDivisionError("injected")

    reporter = Collected(1.0).reporter
    monkeypatch.setattr(reporter.tracer, part, boom)

    async def infer(request):
        return InferResponse("digits", 3, {})

    async def scenario():
        request = InferRequest({}, trace={"traceparent": SAMPLED})
        return [await reporter.infer(infer, request, "digits") for _ in range(2)]

    assert [response.version for response in asyncio.run(scenario())] == [3, 3]
    assert reporter.faults.take() == 2
    assert caplog.text.count("said once") == 1
