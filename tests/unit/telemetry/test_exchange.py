"""The record of a request and its response."""

import pytest

from serve.edge.http import HttpRequest, HttpResponse, error_response
from serve.errors import InvalidRequest
from serve.telemetry.exchange import Exchange, server_timing
from serve.types import Layer, Timing


def _exchange(**headers):
    sent = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = HttpRequest("POST", "/v2/models/m/infer", sent)
    return Exchange(model="m", protocol="v2", started=1.0, request=request)


def test_it_ends_with_its_response():
    exchange = _exchange()
    exchange.end(HttpResponse(404, b"{}"))
    assert exchange.status == 404
    assert exchange.ended > exchange.started


def test_the_error_is_the_message_that_went_to_the_client():
    exchange = _exchange()
    exchange.end(error_response(InvalidRequest("x is FP64")))
    assert exchange.error == "x is FP64"


def test_a_long_error_is_cut():
    exchange = _exchange()
    exchange.end(error_response(InvalidRequest("x" * 10_000)))
    assert exchange.error == "x" * 500


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b'{"error": "a tensor of this name"}'), (500, b"plain"), (500, b"[1]"), (500, b"{}")],
)
def test_there_is_no_error_where_none_was_sent(status, body):
    exchange = _exchange()
    exchange.end(HttpResponse(status, body))
    assert exchange.error is None


def test_the_request_id_is_the_one_of_the_header():
    assert _exchange().request_id is None
    assert _exchange(x_request_id=b"7f3c").request_id == "7f3c"
    assert _exchange(x_request_id=b"\xff").request_id == "\xff"


def test_a_call_by_a_pipeline_has_no_http():
    call = Exchange(model="m", protocol="pipeline", started=1.0, failure="it raised")
    assert (call.method, call.request_id, call.error) == ("", None, "it raised")


def test_server_timing_tells_milliseconds_of_each_part_in_order():
    layers = (Layer("small", 0.001), Layer("large", 0.25))
    timing = Timing(queue_s=0.0005, batch_wait_s=0.002, engine_s=0.3, layers=layers)
    assert server_timing(timing, 0.31) == (
        b"queue;dur=0.500, batch;dur=2.000, engine;dur=300.000, layer-small;dur=1.000, "
        b"layer-large;dur=250.000, total;dur=310.000"
    )
