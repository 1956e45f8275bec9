import asyncio
import logging
import re

import numpy as np
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from serve.config.sections import Tracing
from serve.errors import InferenceFailed
from serve.pipelines.remote import RemoteMember
from serve.telemetry import tracing
from serve.telemetry.request_reporter import Replica, Reporter, reporter_for
from serve.telemetry.trace_context import CURRENT
from serve.telemetry.tracing import Tracer
from serve.types import InferRequest, InferResponse
from tests.receiver import Receiver
from tests.unit.pipelines.fakes import Fake, assemble, sure_of
from tests.unit.replica.fakes import Doubler, call, endpoint, infer_request, x

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"
UNSAMPLED = f"00-{TRACE}-{CALLER}-00"


class Collected:
    """A reporter whose spans stay here."""

    def __init__(self, sampling_ratio: float) -> None:
        self._exporter = InMemorySpanExporter()
        config = Tracing(endpoint="http://nowhere", sampling_ratio=sampling_ratio)
        processor = SimpleSpanProcessor(self._exporter)
        self.reporter = Reporter(config, Tracer(config, "digits", "r1", processor), None)

    @property
    def spans(self):
        return {span.name: span for span in self._exporter.get_finished_spans()}

    @property
    def request(self):
        (span,) = [s for s in self._exporter.get_finished_spans() if s.kind == SpanKind.SERVER]
        return span


@pytest.fixture
def always():
    return Collected(1.0)


@pytest.fixture
def never():
    return Collected(0.0)


def answer(reporter, request, engine=None, **config):
    """Return the answer to one request, by an endpoint with this reporter."""

    async def scenario():
        served = await endpoint(engine, **config)
        served.reporter = reporter
        response = await served.respond(request)
        assert CURRENT.get() is None
        return response

    return asyncio.run(scenario())


def parent_of(span):
    return f"{span.parent.span_id:016x}"


def id_of(span):
    return f"{span.context.span_id:016x}"


def test_a_request_is_a_child_of_its_caller_and_has_a_span_for_each_part(always):
    response = answer(always.reporter, infer_request(1, 2, traceparent=SAMPLED))
    request, spans = always.request, always.spans
    assert f"{request.context.trace_id:032x}" == TRACE
    assert parent_of(request) == CALLER
    assert set(spans) == {"POST /v2/models/digits/infer", "decode", "batch", "engine", "encode"}
    parts = [spans[name] for name in ("decode", "batch", "engine", "encode")]
    assert {parent_of(part) for part in parts} == {id_of(request)}
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["http.route"] == "/v2/models/digits/infer"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["url.path"] == "/v2/models/digits/infer"
    assert request.attributes["strata.model"] == "digits"
    assert request.attributes["strata.version"] == "3"
    assert request.attributes["strata.rows"] == 2
    assert spans["engine"].attributes["strata.batch_rows"] == 2
    assert request.resource.attributes["service.name"] == "digits"
    assert request.resource.attributes["service.instance.id"] == "r1"
    assert dict(response.headers)[b"traceresponse"].startswith(
        f"00-{TRACE}-{id_of(request)}-".encode()
    )


def test_the_parts_follow_each_other_within_the_request(always):
    answer(always.reporter, infer_request(1))
    request, spans = always.request, always.spans
    edges = [request.start_time]
    for name in ("decode", "batch", "engine", "encode"):
        edges += [spans[name].start_time, spans[name].end_time]
    edges.append(request.end_time)
    assert edges == sorted(edges)
    assert spans["decode"].start_time == request.start_time
    assert spans["encode"].end_time == request.end_time


def test_a_request_larger_than_a_batch_has_spans_for_each_piece(always):
    tree = {"max_batch_size": 2}
    answer(always.reporter, infer_request(1, 2, 3), batching=tree)
    engines = [s for s in always._exporter.get_finished_spans() if s.name == "engine"]
    assert [span.attributes["strata.batch_rows"] for span in engines] == [2, 1]
    assert engines[0].end_time <= engines[1].start_time
    assert always.request.attributes["strata.rows"] == 3


@pytest.mark.parametrize(
    ("collected", "header", "is_traced"),
    [
        ("always", {}, True),
        ("never", {}, False),
        ("always", {"traceparent": UNSAMPLED}, False),
        ("never", {"traceparent": SAMPLED}, True),
    ],
)
def test_the_caller_decides_and_else_the_ratio(request, collected, header, is_traced):
    collected = request.getfixturevalue(collected)
    response = answer(collected.reporter, infer_request(1, **header))
    assert bool(collected.spans) == is_traced
    assert (b"traceresponse" in dict(response.headers)) == is_traced


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}",
        f"00-{TRACE.upper()}x-{CALLER}-01",
        "00-é-1-01",
    ],
)
def test_a_bad_traceparent_is_as_good_as_none(always, header):
    assert answer(always.reporter, infer_request(1, traceparent=header)).status == 200
    assert always.request.parent is None


def test_a_traceparent_of_a_later_version_is_passed_on_as_one_of_todays(always):
    sent = f"01-{TRACE}-{CALLER}-00-zz"
    traced = always.reporter.tracer.start({"traceparent": sent, "tracestate": "a=b"}, 0.0)
    assert traced.carrier == {"traceparent": UNSAMPLED, "tracestate": "a=b"}
    assert answer(always.reporter, infer_request(1, traceparent=sent)).status == 200
    assert not always.spans


def test_off_makes_no_span_and_no_header():
    response = answer(None, infer_request(1, traceparent=SAMPLED))
    assert response.status == 200
    assert b"traceresponse" not in dict(response.headers)
    assert CURRENT.get() is None


def test_a_failure_sets_the_status_and_a_bad_request_does_not(always):
    answer(always.reporter, infer_request(13))
    assert always.request.status.status_code == StatusCode.ERROR
    assert always.request.status.description == "thirteen"
    assert always.request.attributes["error.type"] == "500"
    refused = Collected(1.0)
    request = infer_request(1, path="/v2/models/digits/versions/9/infer")
    assert answer(refused.reporter, request).status == 404
    assert refused.request.status.status_code == StatusCode.UNSET
    assert "9" in refused.request.attributes["strata.error"]
    assert refused.request.name == "POST /v2/models/digits/versions/{version}/infer"


def test_a_path_that_does_not_exist_names_no_route(always):
    assert answer(always.reporter, infer_request(1, path="/v2/models/digits/x/1")).status == 404
    assert always.request.name == "POST"
    assert "http.route" not in always.request.attributes


def test_a_body_that_is_refused_is_traced(always):
    async def scenario():
        served = await endpoint()
        served.reporter = always.reporter
        return await call(served, infer_request(*range(10_000), content_length="99999"))

    status, headers = asyncio.run(scenario())
    assert status == 413
    assert always.request.attributes["http.response.status_code"] == 413
    assert b"traceresponse" in headers


def test_what_v1_asked_for_is_what_is_told(always):
    body = infer_request(path="/v2/models/digits/v1:predict")
    request = type(body)("POST", body.path, {}, b'{"instances": [1.0, 2.0]}')
    assert answer(always.reporter, request).status == 200
    assert always.request.attributes["url.path"] == "/v1/models/digits:predict"
    assert always.request.attributes["http.route"] == "/v1/models/digits:predict"
    assert always.request.attributes["strata.protocol"] == "v1"


class Remote(RemoteMember):
    """A remote member whose replica is here."""

    def __init__(self, label, infer):
        self.label, self._model, self._version, self._timeout_s = label, label, None, 10.0
        self._infer = infer
        self.signature = Fake(label, None).signature

    def _wait(self, call, timeout_s):
        return asyncio.run(call)


def cascade(**layer):
    """Return a cascade's engine whose second layer is remote, and what that was told."""
    told = []
    answers = sure_of(1, 2, 3)

    async def infer(request):
        told.append(request.trace)
        return InferResponse("large", 1, {"p": answers(request.inputs["x"])})

    small = Fake("small", lambda values: np.full((len(values), 3), 1 / 3, np.float32))
    tree = {
        "kind": "cascade",
        "layers": [
            {"model": "small", "exit": {"max_probability": 0.9}},
            {"model": "large", **layer},
        ],
    }
    return assemble(tree, small, Remote("large", infer)), told


@pytest.mark.parametrize("layer", [{}, {"deadline_s": 5.0}])
def test_layers_are_below_the_engine_and_a_member_is_told_which_one_it_works_for(always, layer):
    engine, told = cascade(**layer)
    answer(always.reporter, infer_request(1, traceparent=SAMPLED, tracestate="a=b"), engine)
    spans = always.spans
    assert parent_of(spans["layer small"]) == id_of(spans["engine"])
    assert parent_of(spans["layer large"]) == id_of(spans["engine"])
    assert spans["layer large"].attributes["strata.layer"] == "large"
    assert spans["layer small"].end_time <= spans["layer large"].start_time
    assert spans["layer large"].end_time <= spans["engine"].end_time
    (carrier,) = told
    assert re.fullmatch(f"00-{TRACE}-{id_of(spans['layer large'])}-0[13]", carrier["traceparent"])
    assert carrier["tracestate"] == "a=b"


def test_members_are_told_of_a_trace_that_is_not_recorded_and_of_none_when_off(never):
    engine, told = cascade()
    answer(never.reporter, infer_request(1), engine)
    assert told[0]["traceparent"][-2:] in {"00", "02"}
    engine, told = cascade()
    answer(None, infer_request(1), engine)
    assert told == [None]


def test_of_a_batch_the_recorded_trace_reaches_the_members(never):
    engine, told = cascade()

    async def scenario():
        served = await endpoint(engine)
        served.reporter = never.reporter
        requests = [infer_request(1), infer_request(2, traceparent=SAMPLED), infer_request(3)]
        served.in_flight = len(requests)
        await asyncio.gather(*map(served.respond, requests))

    asyncio.run(scenario())
    (carrier,) = told
    assert carrier["traceparent"].split("-")[1] == TRACE


def test_a_call_by_a_pipeline_is_a_child_of_its_layer(always):
    async def scenario(value):
        served = await endpoint(Doubler())
        request = InferRequest(x(value), trace={"traceparent": SAMPLED})
        return await always.reporter.infer(served._model.infer, request, "digits")

    response = asyncio.run(scenario(2))
    assert response.outputs["y"].tolist() == [4]
    assert always.request.name == "infer digits"
    assert parent_of(always.request) == CALLER
    assert parent_of(always.spans["engine"]) == id_of(always.request)
    always._exporter.clear()
    with pytest.raises(InferenceFailed):
        asyncio.run(scenario(13))
    assert always.request.status.status_code == StatusCode.ERROR


def make(tmp_path, before=None, **wanted):
    replica = Replica("digits", "r1", tmp_path)
    return reporter_for({"tracing": wanted, "access_log": False}, replica, before)


def test_spans_arrive_at_a_collector_and_what_is_left_when_it_is_closed(tmp_path):
    with Receiver() as receiver:
        reporter = make(tmp_path, endpoint=receiver.endpoint, sampling_ratio=1)
        answer(reporter, infer_request(1, traceparent=SAMPLED))
        reporter.close()
        (request,) = receiver.named("POST /v2/models/digits/infer")
        assert request.trace_id.hex() == TRACE
        assert request.parent_span_id.hex() == CALLER
        assert {span.name for span, _ in receiver.spans} >= {"decode", "batch", "engine"}
        assert receiver.spans[0][1]["service.namespace"] == "strata"


def test_a_collector_that_is_away_is_one_warning_and_costs_no_request(
    tmp_path, caplog, monkeypatch, eventually
):
    monkeypatch.setattr(tracing, "_SEND_TIMEOUT_S", 0.2)
    with Receiver() as receiver:
        port = receiver.port
    reporter = make(tmp_path, endpoint=receiver.endpoint, sampling_ratio=1)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert answer(reporter, infer_request(1)).status == 200
            reporter.tracer.flush()
        told = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.name for record in told] == ["ray.serve"]
        assert receiver.endpoint in caplog.text

        def arrives():  # a machine that takes long to take one is sent another
            answer(reporter, infer_request(1))
            reporter.tracer.flush()
            return back.named("engine")

        with Receiver(port) as back:
            eventually(arrives)
    assert "takes spans again" in caplog.text
    reporter.close()


def test_nothing_wanted_is_no_reporter_and_a_change_keeps_what_stays(tmp_path):
    assert make(tmp_path) is None
    with Receiver() as receiver:
        first = make(tmp_path, endpoint=receiver.endpoint)
        same = make(tmp_path, first, endpoint=receiver.endpoint)
        assert same.tracer is first.tracer
        changed = make(tmp_path, same, endpoint=receiver.endpoint, sampling_ratio=0.5)
        assert changed.tracer is not first.tracer
        assert make(tmp_path, changed) is None
