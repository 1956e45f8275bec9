"""An answer is right if it is that of the version which it names."""

import json

import numpy as np
import pytest
from reliability.questions import Asked, cascaded, questions

ROWS = np.zeros((2, 28, 28, 1), np.float32)
FIRST = np.eye(10, dtype=np.float32)[:2]
SECOND = np.eye(10, dtype=np.float32)[5:7]


def asked(path="/v2/models/digits/infer"):
    return questions([Asked("digits", path, {1: FIRST, 2: SECOND})], ROWS, "host")


def response(version, values):
    outputs = [{"name": "probabilities", "data": list(map(float, values))}]
    return json.dumps({"model_version": version, "outputs": outputs}).encode()


def test_each_picture_has_its_own_answer_in_each_version():
    one, other = asked()
    assert one.is_right(response("1", FIRST[0]))
    assert one.is_right(response("2", SECOND[0]))
    assert not one.is_right(response("2", FIRST[0]))
    assert not one.is_right(response("1", FIRST[1]))
    assert other.is_right(response("1", FIRST[1]))


def test_other_engines_round_otherwise():
    one, _ = asked()
    assert one.is_right(response("1", FIRST[0] + 1e-5))
    assert not one.is_right(response("1", FIRST[0] + 1e-2))


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"model_version":"3","outputs":[]}'])
def test_what_is_no_answer_is_wrong(body):
    assert not asked()[0].is_right(body)


def test_not_a_number_is_wrong():
    assert not asked()[0].is_right(response("1", [float("nan")] * 10))


def test_v1_names_no_version():
    one, _ = asked("/v1/models/digits:predict")
    for table, is_right in ((FIRST, True), (SECOND, True)):
        body = json.dumps({"predictions": [table[0].tolist()]}).encode()
        assert one.is_right(body) == is_right
    assert not one.is_right(json.dumps({"predictions": [FIRST[1].tolist()]}).encode())


def test_a_request_is_whole_http():
    head, _, body = asked()[0].request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: host\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["inputs"][0]["shape"] == [1, 28, 28, 1]


def test_a_cascade_keeps_the_rows_that_its_first_model_is_sure_of():
    first = np.array([[0.96, 0.04], [0.6, 0.4]])
    then = np.array([[0.1, 0.9], [0.2, 0.8]])
    assert cascaded(first, then, 0.95).tolist() == [[0.96, 0.04], [0.2, 0.8]]
