"""Both directions of V2, with tritonclient's and kserve's codecs as oracles."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serve import datatypes
from serve.errors import InvalidRequest, ServeError, Unsupported
from serve.protocols import rest_v2
from serve.protocols.rest_v2 import OutputFormat
from serve.types import InferRequest, InferResponse, Signature, TensorSpec
from tests.unit.protocols.strategies import bfloats, numbers, strings, tensors, text

_JSON_NUMBERS = ("bool", "uint8", "int8", "uint64", "int64", "float32", "float64")


def _assert_same(expected, got):
    assert list(expected) == list(got)
    for name, array in expected.items():
        assert array.dtype == got[name].dtype
        assert array.shape == got[name].shape
        if array.dtype.kind == "f":
            np.testing.assert_array_equal(array, got[name])
        else:
            assert array.tolist() == got[name].tolist()


@given(tensors(numbers(finite=False) | bfloats() | strings()))
def test_binary_requests_come_back_bit_by_bit(inputs):
    request = InferRequest(inputs, signature="s", id="7", outputs=("a", "b"))
    decoded, form = rest_v2.decode_request(*rest_v2.encode_request(request, binary=True))
    _assert_same(inputs, decoded.inputs)
    assert (decoded.signature, decoded.id, decoded.outputs) == ("s", "7", ("a", "b"))
    assert form.is_binary("a")


@given(tensors(numbers(_JSON_NUMBERS, finite=False) | text()))
def test_json_requests_come_back_with_every_number_exact(inputs):
    body, length = rest_v2.encode_request(InferRequest(inputs), binary=False)
    assert length is None
    _assert_same(inputs, rest_v2.decode_request(body, None)[0].inputs)


@given(tensors(numbers(_JSON_NUMBERS, finite=False) | text()), st.booleans())
def test_responses_come_back(outputs, binary):
    response = InferResponse("m", 3, outputs, id="x")
    decoded = rest_v2.decode_response(*rest_v2.encode_response(response, OutputFormat(binary)))
    _assert_same(outputs, decoded.outputs)
    assert (decoded.model, decoded.version, decoded.id) == ("m", 3, "x")


@given(tensors(numbers(_JSON_NUMBERS)), st.booleans())
def test_what_tritonclient_sends_is_understood(inputs, binary):
    import tritonclient.http as triton
    from tritonclient.http._utils import _get_inference_request
    from tritonclient.utils import np_to_triton_dtype

    sent = []
    for name, array in inputs.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        sent.append(tensor)
    body, length = _get_inference_request(
        inputs=sent,
        request_id="1",
        outputs=None,
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=0,
        timeout=500,
        custom_parameters=None,
    )
    body = body.encode() if isinstance(body, str) else body
    decoded, form = rest_v2.decode_request(body, length)
    _assert_same(inputs, decoded.inputs)
    assert decoded.id == "1"
    assert decoded.timeout_s == pytest.approx(0.0005)
    assert form.is_binary("anything")


@given(tensors(numbers(("bool", "uint8", "int64", "float32", "float64")) | text()), st.booleans())
def test_tritonclient_reads_our_responses(outputs, binary):
    import tritonclient.http as triton

    response = InferResponse("m", 1, outputs)
    body, length = rest_v2.encode_response(response, OutputFormat(binary))
    result = triton.InferResult.from_response_body(body, header_length=length)
    for name, array in outputs.items():
        got = result.as_numpy(name)
        assert list(got.shape) == list(array.shape)
        expected = array.ravel().tolist()
        if array.dtype.hasobject and not binary:
            expected = [item.decode() for item in expected]
            got = np.array([i if isinstance(i, str) else i.decode() for i in got.ravel()], object)
        assert got.ravel().tolist() == expected


@given(tensors(numbers(("bool", "uint8", "int64", "float32", "float64"))), st.booleans())
def test_what_kserve_sends_is_understood_and_it_reads_our_answer(inputs, binary):
    from kserve import InferInput
    from kserve import InferRequest as KServeRequest
    from kserve import InferResponse as KServeResponse

    assume(all(array.size for array in inputs.values()))  # kserve sends both forms of no data
    sent = []
    for name, array in inputs.items():
        datatype = datatypes.from_numpy(array.dtype).name
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        sent.append(tensor)
    body, length = KServeRequest(model_name="m", infer_inputs=sent).to_rest()
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    decoded, _ = rest_v2.decode_request(body, length)
    _assert_same(inputs, decoded.inputs)

    answer = InferResponse("m", 1, inputs, id="1")
    body, length = rest_v2.encode_response(answer, OutputFormat(binary))
    read = (
        KServeResponse.from_bytes(body, length)
        if length is not None
        else KServeResponse.from_rest(json.loads(body))
    )
    for output in read.outputs:
        assert output.as_numpy().ravel().tolist() == inputs[output.name].ravel().tolist()


def test_the_specifications_request_is_understood():
    """Open Inference Protocol, "Inference Request Examples"."""
    body = json.dumps(
        {
            "id": "42",
            "inputs": [
                {"name": "input0", "shape": [2, 2], "datatype": "UINT32", "data": [1, 2, 3, 4]},
                {"name": "input1", "shape": [3], "datatype": "BOOL", "data": [True, False, True]},
            ],
            "outputs": [{"name": "output0"}],
        }
    ).encode()
    request, form = rest_v2.decode_request(body, None)
    assert request.inputs["input0"].tolist() == [[1, 2], [3, 4]]
    assert request.inputs["input0"].dtype == np.uint32
    assert request.outputs == ("output0",)
    assert not form.is_binary("output0")


def test_data_may_be_flat_or_nested():
    def decode(data):
        tensor = {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": data}
        body = json.dumps({"inputs": [tensor]}).encode()
        return rest_v2.decode_request(body, None)[0].inputs["a"].tolist()

    assert decode([1, 2, 3, 4]) == decode([[1, 2], [3, 4]]) == [[1, 2], [3, 4]]


def test_an_output_may_choose_for_itself():
    body = json.dumps(
        {
            "parameters": {"binary_data_output": True},
            "inputs": [],
            "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
        }
    ).encode()
    _, form = rest_v2.decode_request(body, None)
    assert (form.is_binary("a"), form.is_binary("b")) == (False, True)
    outputs = {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    body, length = rest_v2.encode_response(InferResponse("m", 1, outputs), form)
    assert length is not None
    assert len(body) == length + 8


def _body(**tensor):
    entry = {"name": "a", "shape": [2], "datatype": "FP32", **tensor}
    return json.dumps({"inputs": [entry]}).encode()


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({}, "needs either data or binary_data_size"),
        ({"data": [1, 2], "parameters": {"binary_data_size": 8}}, "either data or"),
        ({"parameters": {"binary_data_size": 8}}, "0 are left"),
        ({"parameters": {"binary_data_size": -1}}, "number of bytes"),
        ({"parameters": {"binary_data_size": True}}, "number of bytes"),
        ({"data": [1], "datatype": "INT32", "shape": [True]}, "list of at most"),
        ({"data": [1.5, 2], "datatype": "INT32"}, "not of expected type: INT32"),
        ({"data": [1, 300], "datatype": "UINT8"}, "not of expected type: UINT8"),
        ({"data": [-1, 3], "datatype": "UINT64"}, "not of expected type: UINT64"),
        ({"data": [1, 0], "datatype": "BOOL"}, "not of expected type: BOOL"),
        ({"data": [1, 2], "datatype": "FP16"}, "receiving FP16 data via JSON"),
        ({"data": [1, 2], "datatype": "BF16"}, "receiving BF16 data via JSON"),
        ({"data": [1, 2], "datatype": "BYTES"}, "not of expected type: BYTES"),
        ({"data": [2**70, 2], "datatype": "INT64"}, "not of expected type: INT64"),
        ({"data": [1e300, 2]}, "too large for FP32"),
        ({"data": [1, 2], "name": 3}, "'name' that is a string"),
        ({"data": [1, 2], "parameters": []}, "must be a JSON object"),
    ],
)
def test_a_bad_tensor_is_refused(tensor, said):
    with pytest.raises(InvalidRequest) as caught:
        rest_v2.decode_request(_body(**tensor), None)
    assert said in str(caught.value)


@pytest.mark.parametrize("apart", [1, 20_000])
def test_a_name_that_is_given_twice_is_told(apart):
    tensors = [{"name": str(n), "datatype": "FP32", "shape": [0], "data": []} for n in range(apart)]
    body = json.dumps({"inputs": [*tensors, tensors[-1]]}).encode()
    with pytest.raises(InvalidRequest, match=f"tensor '{apart - 1}' is given twice"):
        rest_v2.decode_request(body, None)


def test_many_names_are_compared_as_often_as_there_are_names():
    class Name(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

    names = [Name(number) for number in (*range(1000), 999)]
    tensors = [{"name": n, "datatype": "FP32", "shape": [0], "data": []} for n in names]
    with pytest.raises(InvalidRequest, match="tensor '999' is given twice"):
        rest_v2._describe({"inputs": tensors}, "inputs")
    assert Name.compared < 2000


def test_nan_for_an_integer_is_refused_and_for_a_float_is_nan():
    good = _body(data=[1, 2]).replace(b"[1, 2]", b"[NaN, Infinity]")
    assert np.isnan(rest_v2.decode_request(good, None)[0].inputs["a"][0])
    bad = good.replace(b"FP32", b"INT32")
    with pytest.raises(InvalidRequest, match="not of expected type: INT32"):
        rest_v2.decode_request(bad, None)


@pytest.mark.parametrize("cut", [1, 3, 5, 7])
def test_cut_or_extra_string_data_is_refused(cut):
    inputs = {"a": np.array([b"one", b"two"], object)}
    body, length = rest_v2.encode_request(InferRequest(inputs), binary=True)
    size = len(body) - length
    shorter = body[:length].replace(
        b'"binary_data_size":%d' % size, b'"binary_data_size":%d' % (size - cut)
    )
    with pytest.raises(InvalidRequest):
        rest_v2.decode_request(shorter + body[length:-cut], len(shorter))
    with pytest.raises(InvalidRequest, match="belong to no tensor"):
        rest_v2.decode_request(body + b"x" * cut, length)


def test_classification_is_not_supported():
    outputs = [{"name": "a", "parameters": {"classification": 3}}]
    body = json.dumps({"inputs": [], "outputs": outputs}).encode()
    with pytest.raises(Unsupported, match="classification"):
        rest_v2.decode_request(body, None)


def test_outputs_that_json_cannot_carry_are_refused():
    half = InferResponse("m", 1, {"a": np.ones(1, np.float16)})
    with pytest.raises(InvalidRequest, match="sending FP16 data via JSON"):
        rest_v2.encode_response(half, OutputFormat())
    blob = InferResponse("m", 1, {"a": np.array([b"\xff"], object)})
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        rest_v2.encode_response(blob, OutputFormat())


_IMAGE = Signature("s", (TensorSpec("x", "FP32", (-1, 2)),), (), True)
_VARIABLE = Signature("s", (TensorSpec("x", "FP32", (-1, -1, 2)),), (), True)
_STRING = Signature("s", (TensorSpec("x", "BYTES", (-1,)),), (), True)


@pytest.mark.parametrize(
    ("signature", "body", "shape"),
    [(_IMAGE, b"\0" * 8, (1, 2)), (_VARIABLE, b"\0" * 24, (1, 3, 2)), (_STRING, b"word", (1,))],
)
def test_a_raw_request_takes_its_shape_from_the_signature(signature, body, shape):
    request, form = rest_v2.decode_request(body, 0, signature)
    assert request.inputs["x"].shape == shape
    assert form.is_binary("any")


def test_a_raw_request_that_does_not_fit_is_refused():
    with pytest.raises(InvalidRequest, match="takes 8"):
        rest_v2.decode_request(b"\0" * 9, 0, _IMAGE)
    with pytest.raises(InvalidRequest, match="exactly one input"):
        rest_v2.decode_request(b"", 0, None)


def _decode_anything(body, length):
    try:
        rest_v2.decode_request(body, length)
    except ServeError as err:
        status = err.http_status
    else:
        status = 200
    assert status in {200, 400, 501}


@settings(max_examples=400)
@given(st.binary(max_size=80), st.none() | st.integers(0, 90))
def test_no_bytes_raise_anything_but_a_clear_error(body, length):
    _decode_anything(body, length)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(
    st.dictionaries(
        st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), _VALUES, max_size=5
    ),
    st.sampled_from([*datatypes.DATATYPES, "NO"]),
    _VALUES,
)
def test_no_document_raises_anything_but_a_clear_error(tensor, datatype, other):
    entry = {"name": "a", "shape": [1], "datatype": datatype, **tensor}
    for document in ({"inputs": [entry]}, {"inputs": other, "outputs": other, "parameters": other}):
        _decode_anything(json.dumps(document).encode(), None)
