"""Targets pass what is right and what is refused, and raise for what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from fuzz_targets import targets
from fuzz_targets.layout import Parts, join
from fuzz_targets.targets import TARGETS

from serve.errors import BodyTooLarge, InferenceFailed, InvalidRequest, Unsupported
from serve.protocols import float_arrays, rest_v1, rest_v2
from serve.protocols.content_encoding import compress


def _v2(body, json_length=None, choice=0):
    return join(Parts(choice, json_length, body))


_TENSOR = {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2.5]}
_V2 = _v2(json.dumps({"inputs": [_TENSOR], "id": "7"}).encode())
_V1 = join(Parts(0, None, b'{"instances": [1, 2.5, 1e300]}'))
_RIGHT_V1 = join(Parts(0, None, b'{"instances": [1, 2.5]}'))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff" * 20, b"[1, 2]", compress(b"a" * 999, "gzip")]
)
def test_whatever_is_sent_is_taken_or_refused(name, data):
    TARGETS[name](data)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("v2", _V2),
        ("v2", _v2(b"\0\0\x80?" * 3, 0)),
        ("v2-response", _V2),
        ("v1", _V1),
        ("v1", _RIGHT_V1),
        ("v1", join(Parts(1, None, b'{"inputs": {"x": [[1, 2]], "s": ["a"]}}'))),
        ("tensors", join(Parts(0, None, b"\1\2\0\1"))),
        ("floats", b"[[1.5, 2], [3, 4]]"),
        ("encoding", join(Parts(0, None, compress(b"\0" * 2_000_000, "gzip")))),
        ("paths", b"v1/models/m/versions/3:PREDICT"),
        ("headers", b"500m"),
    ],
)
def test_golden_inputs_pass(name, data):
    TARGETS[name](data)


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), InferenceFailed("no")])
def test_what_no_client_may_be_told_is_a_finding(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(rest_v1, "decode_predict", fails)
    monkeypatch.setattr(rest_v2, "decode_request", fails)
    for name, data in (("v1", _V1), ("v2", _V2)):
        with pytest.raises(type(error)):
            TARGETS[name](data)


@pytest.mark.parametrize("error", [InvalidRequest("no"), BodyTooLarge("no"), Unsupported("no")])
def test_what_a_client_is_told_is_none(error):
    with targets.refusals():
        raise error


def test_a_value_that_does_not_come_back_is_a_finding(monkeypatch):
    decode = rest_v2.decode_response

    def loses(body, json_length):
        response = decode(body, json_length)
        response.outputs["x"] = response.outputs["x"] + 1
        return response

    monkeypatch.setattr(rest_v2, "decode_response", loses)
    with pytest.raises(AssertionError):
        TARGETS["v2"](_V2)


def test_another_meaning_for_the_quick_reader_is_a_finding(monkeypatch):
    read = float_arrays.read_floats
    for module in (rest_v1, rest_v2):
        monkeypatch.setattr(module, "read_floats", lambda text: read(text) + 1)
    for name, data in (("v1", _RIGHT_V1), ("v2", _V2)):
        with pytest.raises(AssertionError):
            TARGETS[name](data)


def test_a_message_of_megabytes_is_a_finding(monkeypatch):
    monkeypatch.setattr("serve.protocols.json_documents._LONGEST_MESSAGE", 10**9)
    with pytest.raises(AssertionError, match="an error of"):
        TARGETS["v1"](join(Parts(0, None, b'{"instances": [{"' + b"y" * 50_000 + b'": 1}]}')))


def test_nan_equals_nan_and_nothing_of_another_type():
    assert targets._same(np.array([np.nan]), np.array([np.nan]))
    assert not targets._same(np.array([1], np.int32), np.array([1], np.int64))
    assert not targets._same(np.array([2**63 - 1]), np.array([2**63 - 2]))


def test_the_command_names_every_target():
    command = (Path(__file__).parents[3] / "scripts" / "fuzz").read_text()
    assert f"targets=({' '.join(TARGETS)})" in command
    assert f"# Targets: {', '.join(TARGETS)}." in command
