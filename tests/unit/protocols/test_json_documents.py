"""JSON bodies: what is no object is refused, and arrays come back exactly, NaN included."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serve.errors import InvalidRequest
from serve.protocols.json_documents import dump, encode_error, parse_object, rows_of_numbers
from serve.protocols.json_documents import numbers as numbers_for_json
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
        (b'{"a": NaN', "at offset: 9"),
        (b'{"a": [NaN, -Infinity, 1e400]}', "at offset: 23"),
        (b'{"a": [NaN, +Infinity]}', "at offset: 12"),
        (b'{"a": [NaN, -NaN]}', "at offset: 12"),
        (b'{"a": NaN, "b": "\\ud800"}', "JSON Parse error"),
        (b'{"a": NaN, "b": "\xff"}', "JSON Parse error"),
        (b'{"a": NaN, "b": "\\x"}', "JSON Parse error"),
        (b'{"a": NaN, \\"b": 1}', "JSON Parse error"),
        (b'{"a": NaN, "b": "\\\\"c"}', "JSON Parse error"),
        (b'{"a": [NaN, NaN1]}', "JSON Parse error"),
        (b'{"a": [NaN, InfinityNaN]}', "JSON Parse error"),
        (b"{NaN: 1}", "JSON Parse error"),
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


@pytest.mark.parametrize("depth", [900, 1000, 1023])
def test_whatever_depth_is_read_is_read_with_nan_too_or_refused(depth):
    for inner in (b"1", b"NaN"):
        with suppress(InvalidRequest):
            parse_object(b'{"a": ' + b"[" * depth + inner + b"]" * depth + b"}")


@given(st.text(), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1.5, 2**70]))
def test_tokens_are_read_beside_any_text(text, number):
    text += ' NaN "-Infinity" \\" \\\\'
    document = {text: [number, text, float("nan")], "NaN": None}
    for ascii_only in (True, False):
        body = json.dumps(document, ensure_ascii=ascii_only).encode()
        assert repr(parse_object(body)) == repr(document)


@given(numbers(_IN_JSON, finite=False))
def test_an_array_comes_back_with_its_shape_and_every_number(array):
    body = dump({"a": numbers_for_json(array)})
    assert b"null" not in body
    read = np.array(parse_object(body)["a"], array.dtype)
    assert array.size == 0 or read.shape == array.shape
    np.testing.assert_array_equal(read.ravel(), array.ravel())


@given(numbers(_IN_JSON, finite=False))
def test_the_rows_of_an_array_are_written_as_the_array_is(array):
    if array.ndim:
        assert dump(rows_of_numbers(array)) == dump(numbers_for_json(array))


@pytest.mark.parametrize("value", [0.1, 1e-7, 3.4e38, np.nan])
def test_digits_are_as_few_as_the_type_needs_with_and_without_nan(value):
    array = np.array([[0.1, 1], [value, 0.7]], np.float32)
    said = b"[[0.1,1.0],[%s,0.7]]" % dump(numbers_for_json(array[1, :1]))[1:-1]
    assert dump(numbers_for_json(array)) == said
    assert dump(rows_of_numbers(array)) == said
    assert dump(numbers_for_json(array[0, 0])) == b"0.1"


@given(hnp.arrays("float32", 3, elements=st.floats(allow_nan=False, width=32)))
def test_nan_beside_an_array_does_not_change_how_its_numbers_are_written(array):
    lost = np.array([np.nan, np.inf, -np.inf])
    one, other = numbers_for_json(array), numbers_for_json(lost)
    alone, beside = dump({"a": one}), dump({"a": one, "b": other})
    assert json.loads(beside)["a"] == json.loads(alone)["a"]
    assert beside.endswith(b'"b":[NaN,Infinity,-Infinity]}')


def test_a_null_in_a_text_stays_what_it_is():
    lost = numbers_for_json(np.array([np.nan]))
    assert dump({"null": lost, "a": "null"}) == b'{"null":[NaN],"a":"null"}'


@pytest.mark.parametrize("message", ["\ud800", "model 'a\udfff' is not found", "\x00", "ü"])
def test_an_error_is_written_whatever_it_quotes(message):
    assert json.loads(encode_error(message)).keys() == {"error"}


@pytest.mark.parametrize("character", ["a", "\x7f", "\0", "\ud800", "😀"])
def test_an_error_that_quotes_megabytes_is_short(character):
    body = encode_error("it begins" + character * 1_000_000)
    assert len(body) < 30_000
    said = json.loads(body)["error"]
    assert said.startswith("it begins")
    assert said.endswith("... (1000009 characters in all)")


@given(st.text())
def test_tritonclient_reads_an_error_whatever_its_message(message):
    from tritonclient.http._utils import _get_error

    class Response:
        status_code = 400

        def read(self):
            return encode_error(message)

    assert _get_error(Response()).message() == message
