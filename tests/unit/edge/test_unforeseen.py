import logging

import orjson
import pytest

from serve.edge.http import HttpRequest
from serve.edge.unforeseen import unforeseen


def _request(headers):
    return HttpRequest("POST", "/v2/models/digits/infer", headers)


def test_a_client_is_told_its_requests_id_and_no_details(caplog):
    with caplog.at_level(logging.ERROR, "ray.serve"):
        response = unforeseen(KeyError("secret"), _request({b"x-request-id": b"seven"}), "here")
    said = orjson.loads(response.body)["error"]
    assert response.status == 500
    assert "(KeyError); its log has the details of request seven" in said
    assert "secret" not in said
    (record,) = caplog.records
    assert record.exc_info[0] is KeyError
    assert "here: request 'seven' (POST '/v2/models/digits/infer') raised" in record.getMessage()


@pytest.mark.parametrize("headers", [{}, {b"x-request-id": b""}])
def test_a_request_without_an_id_gets_one(headers, caplog):
    said = orjson.loads(unforeseen(KeyError(), _request(headers), "here").body)["error"]
    request_id = said.rpartition(" ")[2]
    assert len(request_id) == 32
    assert request_id in caplog.text


def test_an_id_is_cut_and_cannot_write_lines_of_the_log(caplog):
    given = b"\xff\nERROR forged" + b"n" * 5_000
    response = unforeseen(KeyError(), _request({b"x-request-id": given}), "here")
    assert len(response.body) < 500
    assert "\nERROR forged" not in caplog.text
