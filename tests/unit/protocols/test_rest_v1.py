import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve import datatypes
from serve.errors import InvalidRequest, ServeError
from serve.protocols import rest_v1
from serve.types import InferResponse, Signature, TensorSpec
from tests.unit.protocols.strategies import numbers, text

_ONE = Signature("serving_default", (TensorSpec("x", "FP32", (-1,)),), (), True)
_TWO = Signature(
    "serving_default",
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("s", "BYTES", (-1,))),
    (),
    True,
)


def _decode(document, signature=_ONE):
    signatures = {"serving_default": signature, "other": _ONE}
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    request, row_form = rest_v1.decode_predict(body, signatures, "serving_default")
    return {name: array.tolist() for name, array in request.inputs.items()}, row_form


@pytest.mark.parametrize(
    ("document", "inputs", "row_form"),
    [
        ({"instances": [1.0, 2]}, {"x": [1.0, 2.0]}, True),
        ({"instances": [{"x": 1.0}, {"x": 2.0}]}, {"x": [1.0, 2.0]}, True),
        ({"inputs": [1, 2]}, {"x": [1.0, 2.0]}, False),
        ({"inputs": {"x": [1, 2]}}, {"x": [1.0, 2.0]}, False),
        ({"instances": [1], "signature_name": "other"}, {"x": [1.0]}, True),
        ({"instances": [1], "signature_name": ""}, {"x": [1.0]}, True),
        (b'{"instances": [NaN]}', None, True),
    ],
)
def test_every_form_of_one_input_is_understood(document, inputs, row_form):
    got, rows = _decode(document)
    assert rows is row_form
    assert inputs is None or got == inputs


def test_several_inputs_come_by_row_or_by_column():
    rows = [{"x": [1, 2], "s": "a"}, {"x": [3, 4], "s": {"b64": "/w=="}}]
    columns = {"x": [[1, 2], [3, 4]], "s": ["a", {"b64": "/w=="}]}
    expected = {"x": [[1.0, 2.0], [3.0, 4.0]], "s": [b"a", b"\xff"]}
    assert _decode({"instances": rows}, _TWO) == (expected, True)
    assert _decode({"inputs": columns}, _TWO) == (expected, False)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "The document is empty"),
        (b"[]", "not an object"),
        ({}, "exactly one of"),
        ({"instances": 3}, "must be a list"),
        ({"instances": []}, "at least one"),
        ({"instances": [1], "signature_name": 1}, "must be a string value"),
        ({"instances": [1], "signature_name": "no"}, 'name: "no" not found in signature def'),
        ({"instances": [{"y": 1}]}, "unknown inputs ['y']"),
        ({"instances": [{"x": 1}, {"y": 1}]}, "instance 1 has other keys"),
        ({"instances": [[1], [1, 2]]}, "ragged"),
        ({"instances": ["a"]}, "not of expected type: FP32"),
    ],
)
def test_a_bad_body_is_refused(document, said):
    with pytest.raises(InvalidRequest) as caught:
        _decode(document)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "value", [{"b64": 3}, {"b64": "?"}, {"no": "b64"}, {"b64": "YQ==", "c": 1}]
)
def test_bad_base64_is_refused(value):
    with pytest.raises(InvalidRequest):
        _decode({"inputs": {"x": [[1, 2]], "s": [value]}}, _TWO)


def _response(**outputs):
    return InferResponse("m", 1, outputs)


def test_answers_have_the_form_of_the_request():
    one = _response(y=np.array([1.5, 2], np.float32))
    assert json.loads(rest_v1.encode_predict(one, _ONE, True)) == {"predictions": [1.5, 2.0]}
    assert json.loads(rest_v1.encode_predict(one, _ONE, False)) == {"outputs": [1.5, 2.0]}
    two = _response(y=np.array([1, 2]), raw_bytes=np.array([b"a", b"\xff"], object))
    assert json.loads(rest_v1.encode_predict(two, _ONE, True)) == {
        "predictions": [
            {"y": 1, "raw_bytes": {"b64": "YQ=="}},
            {"y": 2, "raw_bytes": {"b64": "/w=="}},
        ]
    }


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_nan_and_infinity_are_written_as_tokens_for_every_float_type(dtype):
    lost = np.array([np.nan, np.inf, -np.inf, 0.5], np.float32).astype(dtype)
    body = rest_v1.encode_predict(_response(y=lost), _ONE, True)
    assert body == b'{"predictions":[NaN,Infinity,-Infinity,0.5]}'
    body = rest_v1.encode_predict(_response(y=lost), _ONE, False)
    assert body == b'{"outputs":[NaN,Infinity,-Infinity,0.5]}'
    body = rest_v1.encode_predict(_response(y=lost[:2], z=lost[2:].reshape(2, 1)), _ONE, True)
    assert body == b'{"predictions":[{"y":NaN,"z":[-Infinity]},{"y":Infinity,"z":[0.5]}]}'


def test_rows_of_several_outputs_have_few_digits_beside_nan():
    y = np.array([[0.1], [np.nan]], np.float32)
    body = rest_v1.encode_predict(_response(y=y, z=y[:, 0]), _ONE, True)
    assert body == b'{"predictions":[{"y":[0.1],"z":0.1},{"y":[NaN],"z":NaN}]}'


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("y", np.array(0.1, np.float32), b"0.1"),
        ("y", np.array(np.nan, np.float32), b"NaN"),
        ("y", np.array(-np.inf), b"-Infinity"),
        ("y", np.array(0.5, np.float16), b"0.5"),
        ("y", np.array(np.nan, ml_dtypes.bfloat16), b"NaN"),
        ("y", np.array(7, np.int8), b"7"),
        ("y", np.array(2**64 - 1, np.uint64), b"18446744073709551615"),
        ("y", np.array(True), b"true"),
        ("y", np.array(b"abc", object), b'"abc"'),
        ("y_bytes", np.array(b"\xff", object), b'{"b64":"/w=="}'),
    ],
)
def test_an_output_of_rank_0_is_a_bare_value_and_has_no_rows(name, value, said):
    alone = _response(**{name: value})
    assert rest_v1.encode_predict(alone, _ONE, False) == b'{"outputs":%s}' % said
    beside = _response(**{name: value}, rows=np.ones(1, np.int32))
    expected = b'{"outputs":{"%s":%s,"rows":[1]}}' % (name.encode(), said)
    assert rest_v1.encode_predict(beside, _ONE, False) == expected
    for response in (alone, beside):
        with pytest.raises(
            InvalidRequest,
            match=f"'{name}' of signature 'serving_default' is a single value, .*'inputs' instead",
        ):
            rest_v1.encode_predict(response, _ONE, True)


def test_inputs_of_rank_0_and_without_elements_have_the_shape_of_the_signature():
    specs = (TensorSpec("k", "INT32", ()), TensorSpec("x", "FP32", (-1, -1, 3)))
    signature = Signature("serving_default", specs, (), False)
    body = b'{"inputs": {"k": 3, "x": [[], []]}}'
    request, _ = rest_v1.decode_predict(body, {"serving_default": signature}, "serving_default")
    assert request.inputs["k"].shape == ()
    assert request.inputs["x"].shape == (2, 0, 3)


def test_half_floats_are_taken_within_their_bounds():
    signature = Signature("serving_default", (TensorSpec("x", "FP16", (-1,)),), (), True)
    assert _decode(b'{"inputs": [0.5, -Infinity]}', signature)[0] == {"x": [0.5, -np.inf]}
    with pytest.raises(InvalidRequest, match="too large for FP16"):
        _decode({"inputs": [70000]}, signature)


def test_outputs_without_a_common_batch_dimension_need_the_columnar_form():
    response = _response(a=np.ones(2), b=np.ones(3))
    with pytest.raises(InvalidRequest, match="columnar form"):
        rest_v1.encode_predict(response, _ONE, True)
    assert rest_v1.encode_predict(response, _ONE, False)


def test_status_pleases_clients_of_both_systems():
    status = rest_v1.status("m", {1: "AVAILABLE", 3: "AVAILABLE"}, {2: "broken"})
    assert status["ready"] is True
    assert [v["version"] for v in status["model_version_status"]] == ["3", "2", "1"]
    assert status["model_version_status"][1] == {
        "version": "2",
        "state": "END",
        "status": {"error_code": "FAILED_PRECONDITION", "error_message": "broken"},
    }


def test_metadata_has_tensorflow_servings_shape():
    metadata = rest_v1.metadata("m", "1", {"serving_default": _TWO})
    inputs = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert inputs["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
            "unknown_rank": False,
        },
        "name": "x",
    }


@given(numbers(("bool", "int8", "uint64", "int64", "float16", "float32", "float64")) | text())
def test_rows_come_back_exact(array):
    if array.shape[:1] in {(), (0,)}:  # no rows
        return
    spec = TensorSpec("x", datatypes.from_numpy(array.dtype).name, (-1, *array.shape[1:]))
    signature = Signature("serving_default", (spec,), (spec,), True)
    body = rest_v1.encode_predict(_response(x=array), _ONE, True)
    sent = json.dumps({"instances": json.loads(body)["predictions"]}).encode()
    request, _ = rest_v1.decode_predict(sent, {"serving_default": signature}, "serving_default")
    got = request.inputs["x"]
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tolist() == array.tolist()


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["x", "s", "b64"]), inner, max_size=3)
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps({"instances": value}).encode())
)
def test_no_body_raises_anything_but_a_clear_error(body):
    for signature in (_ONE, _TWO):
        try:
            _decode(body, signature)
        except ServeError as err:
            status = err.http_status
        else:
            status = 200
        assert status in {200, 400}
