"""JSON bodies: what is no object is refused, and arrays come back exactly, NaN included."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serve.errors import InvalidRequest
from serve.protocols.json_documents import dump, encode_error, parse_object
from tests.unit.protocols.strategies import numbers

_IN_JSON = ("bool", "uint8", "uint64", "int64", "float32", "float64")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The document is empty"),
        (b" \n", "The document is empty"),
        (b"[1]", "not an object but a list"),
        (b"NaN", "not an object but a float"),
        (b'{"a": 1} 2', "JSON Parse error"),
        (b'{"a": \xff}', "JSON Parse error"),
        (b'{"a": NaN', "at offset: 6"),
        (b'{"a": "NaN", b}', "at offset: 13"),
    ],
)
def test_what_is_no_json_object_is_refused(body, said):
    with pytest.raises(InvalidRequest) as caught:
        parse_object(body)
    assert said in str(caught.value)


@pytest.mark.parametrize("inner", [b"1", b"NaN"])
def test_a_body_that_is_nested_too_deep_is_refused(inner):
    with pytest.raises(InvalidRequest, match="JSON Parse error"):
        parse_object(b'{"a": ' + b"[" * 100_000 + inner + b"]" * 100_000 + b"}")


@given(numbers(_IN_JSON, finite=False))
def test_an_array_comes_back_with_its_shape_and_every_number(array):
    body = dump({"a": array}, [array])
    assert b"null" not in body
    read = np.array(parse_object(body)["a"], array.dtype)
    assert array.size == 0 or read.shape == array.shape
    np.testing.assert_array_equal(read.ravel(), array.ravel())


@given(hnp.arrays("float32", 3, elements=st.floats(allow_nan=False, width=32)))
def test_nan_beside_an_array_does_not_change_how_its_numbers_are_written(array):
    lost = np.array([np.nan, np.inf, -np.inf])
    alone, beside = dump({"a": array}, [array]), dump({"a": array, "b": lost}, [array, lost])
    assert json.loads(beside)["a"] == json.loads(alone)["a"]
    assert beside.endswith(b'"b":[NaN,Infinity,-Infinity]}')


@given(st.text())
def test_tritonclient_reads_an_error_whatever_its_message(message):
    from tritonclient.http._utils import _get_error

    class Response:
        status_code = 400

        def read(self):
            return encode_error(message)

    assert _get_error(Response()).message() == message
