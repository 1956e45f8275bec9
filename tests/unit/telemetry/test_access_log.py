import asyncio
import json
import logging
import re

import pytest

from serve.config.sections import Tracing
from serve.edge.http import HttpRequest
from serve.telemetry import access_log
from serve.telemetry.access_log import AccessLog
from serve.telemetry.exchange import Exchange
from serve.telemetry.request_reporter import Replica, reporter_for
from serve.telemetry.tracing import Tracer
from tests.unit.replica.fakes import Doubler, call, endpoint, infer_request
from tests.unit.telemetry.test_tracing import SAMPLED, TRACE, Collected, cascade


@pytest.fixture
def told(tmp_path):
    """Send requests to an endpoint with an access log and return its lines."""

    def send(*requests, engine=None, tracer=None, **config):
        async def scenario():
            served = await endpoint(engine, **config)
            replica = Replica("digits", "r1", tmp_path)
            served.reporter = reporter_for({"access_log": True}, replica, None)
            served.reporter.tracer = tracer
            for request in requests:
                await call(served, request)
            return served.reporter

        asyncio.run(scenario()).close()
        (path,) = tmp_path.iterdir()
        assert path.name == "access_digits_r1.log"
        return [json.loads(line) for line in path.read_text().splitlines()]

    return send


def test_an_answered_request_is_a_line_of_json(told):
    (line,) = told(infer_request(1, 2, x_request_id="abc"))
    assert list(line) == [
        "time",
        "request_id",
        "model",
        "version",
        "protocol",
        "method",
        "path",
        "code",
        "total_ms",
        "rows",
        "batch_rows",
        "queue_ms",
        "batch_wait_ms",
        "engine_ms",
    ]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", line["time"])
    assert (line["request_id"], line["model"], line["version"]) == ("abc", "digits", "3")
    assert (line["protocol"], line["method"], line["code"]) == ("v2", "POST", 200)
    assert line["path"] == "/v2/models/digits/infer"
    assert (line["rows"], line["batch_rows"]) == (2, 2)
    assert 0 <= line["engine_ms"] <= line["total_ms"]


def test_a_failed_request_says_why_in_one_line(told):
    failed, refused, unread = told(
        infer_request(13),
        infer_request(1, path="/v2/models/digits/infer", inference_header_content_length="no\tway"),
        infer_request(1, content_length="99999"),
    )
    assert (failed["code"], failed["error"]) == (500, "thirteen")
    assert refused["code"] == 400
    assert "number of bytes" in refused["error"]
    assert (unread["code"], unread["version"]) == (413, None)
    assert "engine_ms" not in unread


def test_a_long_message_is_cut(told):
    request = infer_request(1, path=f"/v2/models/digits/labels/{'n' * 5_000}/infer")
    (line,) = told(request)
    assert len(line["error"]) == 500


def test_layers_are_told_by_label(told):
    engine, _ = cascade()
    (line,) = told(infer_request(1), engine=engine)
    assert list(line["layers"]) == ["small", "large"]
    assert all(ms >= 0 for ms in line["layers"].values())


@pytest.mark.parametrize(
    "name", ['"}\n{"code": 200}', "a\r\nb", "\\u000a", "\x00\x1b[31m", "é" * 3, "x" * 10_000]
)
def test_no_request_id_makes_a_second_line(told, name):
    request = infer_request(1)
    request.headers[b"x-request-id"] = name.encode("latin-1")
    (line,) = told(request)
    assert line["request_id"] == name[:256]


def test_a_traced_request_names_its_trace_and_any_request_gets_an_id(told):
    tracer = Collected(0.0).reporter.tracer
    traced, untraced = told(infer_request(1, traceparent=SAMPLED), infer_request(1), tracer=tracer)
    assert traced["trace_id"] == traced["request_id"] == TRACE
    assert "trace_id" not in untraced
    assert re.fullmatch("[0-9a-f]{32}", untraced["request_id"])


def test_v1_is_told_by_the_path_that_was_asked_for(told):
    body = b'{"instances": [1.0]}'
    request = HttpRequest("POST", "/v2/models/digits/v1/versions/3:predict", {}, body)
    (line,) = told(request)
    assert (line["path"], line["protocol"]) == ("/v1/models/digits/versions/3:predict", "v1")


def _exchange(code=200):
    return Exchange(
        model="digits",
        protocol="v2",
        started=0.0,
        ended=0.001,
        status=code,
        path="/v2/models/digits",
        request=HttpRequest("GET", "/v2/models/digits", {}),
    )


def test_lines_reach_the_file_by_themselves_and_off_the_event_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(access_log, "_WRITE_PERIOD_S", 0.0)
    path = tmp_path / "access.log"
    threads = []

    async def scenario():
        written = AccessLog(path)
        write = written._write

        def watched(*taken):
            threads.append(asyncio.events._get_running_loop())
            write(*taken)

        monkeypatch.setattr(written, "_write", watched)
        for code in (200, 404):
            written.put(_exchange(code), None)
        await written._writing
        first = path.read_text().splitlines()
        written.put(_exchange(500), None)
        await written._writing
        return first, path.read_text().splitlines()

    first, all_lines = asyncio.run(scenario())
    assert [json.loads(line)["code"] for line in first] == [200, 404]
    assert [json.loads(line)["code"] for line in all_lines] == [200, 404, 500]
    assert threads == [None, None]


def test_files_are_rotated_and_the_oldest_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(access_log, "_MAX_FILE_BYTES", 300)
    path = tmp_path / "access.log"

    async def scenario():
        written = AccessLog(path)
        for _ in range(20):
            written.put(_exchange(), None)
            written._write(*written._taken())
        written.close()

    asyncio.run(scenario())
    assert len(list(tmp_path.iterdir())) == 1 + access_log._KEPT_FILES
    for file in tmp_path.iterdir():
        assert all(json.loads(line) for line in file.read_text().splitlines())


def test_a_disk_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    async def scenario():
        written = AccessLog(tmp_path / "missing" / "access.log")
        for _ in range(3):
            written.put(_exchange(), None)
            written._write(*written._taken())
        written.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert [record.message for record in caplog.records] == ["the access log cannot be written"]


def test_a_disk_that_is_too_slow_loses_lines_and_says_how_many(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(access_log, "_MAX_WAITING", 2)

    async def scenario():
        written = AccessLog(tmp_path / "access.log")
        for _ in range(5):
            written.put(_exchange(), None)
        written.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert len((tmp_path / "access.log").read_text().splitlines()) == 2
    assert "lost 3 lines" in caplog.text


def test_a_change_of_the_trace_keeps_the_log(tmp_path):
    replica = Replica("digits", "r1", tmp_path)
    first = reporter_for({"access_log": True}, replica, None)
    wanted = {
        "access_log": True,
        "tracing": {"endpoint": "http://localhost:1", "sampling_ratio": 0},
    }
    second = reporter_for(wanted, replica, first)
    assert second.access_log is first.access_log
    assert isinstance(second.tracer, Tracer)
    assert second.tracing == Tracing.model_validate(wanted["tracing"])
    second.close()


def test_off_writes_nothing(tmp_path):
    async def scenario():
        served = await endpoint(Doubler())
        await call(served, infer_request(1))

    asyncio.run(scenario())
    assert not list(tmp_path.iterdir())
    assert reporter_for({}, Replica("digits", "r1", tmp_path), None) is None
