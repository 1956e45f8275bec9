"""Schemas: what a model takes and answers fits them, and what it refuses for its form does not."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jsonschema import Draft202012Validator

from serve.datatypes import DATATYPES
from serve.errors import InvalidRequest
from serve.protocols import rest_v1, rest_v2, tensor_schemas
from serve.protocols.signature_check import check
from serve.protocols.tensors import in_decimals
from serve.types import InferRequest, InferResponse, Signature, TensorSpec

_HALF = {"FP16", "BF16"}


def _of_json(datatypes):
    return [name for name in datatypes if name not in _HALF]


def _specs(datatypes):
    shapes = st.none() | st.lists(st.sampled_from([-1, 0, 1, 3]), max_size=3).map(tuple)
    names = st.sampled_from(["x", "y", "text_bytes", "ä b"])
    spec = st.builds(TensorSpec, names, st.sampled_from(datatypes), shapes)
    return st.lists(spec, min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)


@st.composite
def _array(draw, spec, rows):
    shape = (rows, 2) if spec.shape is None else spec.shape
    shape = tuple(rows if size < 0 else size for size in shape)
    dtype = DATATYPES[spec.datatype].numpy
    if dtype.hasobject:
        return draw(hnp.arrays(object, shape, elements=st.text(max_size=3).map(str.encode)))
    if spec.datatype == "BF16":
        return draw(hnp.arrays("float16", shape, elements=st.floats(-9, 9, width=16))).astype(dtype)
    is_float = dtype.kind == "f"
    finite = st.floats(allow_nan=False, allow_infinity=False, width=dtype.itemsize * 8)
    return draw(hnp.arrays(dtype, shape, elements=finite if is_float else None))


@st.composite
def _computed(draw, datatypes):
    """Draw a signature and tensors that fit its inputs and outputs."""
    inputs, outputs = draw(_specs(datatypes)), draw(_specs(datatypes))
    rows = draw(st.integers(0, 3))
    tensors = [
        {spec.name: draw(_array(spec, rows)) for spec in specs} for specs in (inputs, outputs)
    ]
    return Signature("s", inputs, outputs, False), *tensors


def _fits(schema, body):
    document = json.loads(body)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema).is_valid(document)


@settings(max_examples=50, deadline=None)
@given(_computed(_of_json(DATATYPES)), st.booleans())
def test_every_json_request_and_response_of_v2_fits(computed, flat):
    signature, inputs, outputs = computed
    request = InferRequest(inputs, signature="s", outputs=tuple(outputs), id="7", timeout_s=1)
    body, _ = rest_v2.encode_request(request, binary=False)
    document = json.loads(body)
    if not flat:
        for tensor in document["inputs"]:
            tensor["data"] = np.array(tensor["data"], object).reshape(tensor["shape"]).tolist()
    assert _fits(tensor_schemas.v2_request({"s": signature}, "s"), json.dumps(document))
    response = InferResponse("m", 3, outputs, id="7")
    body, _ = rest_v2.encode_response(response, rest_v2.OutputFormat())
    assert _fits(tensor_schemas.v2_response("m", [signature]), body)


@settings(max_examples=50, deadline=None)
@given(_computed(list(DATATYPES)))
def test_every_request_and_response_of_v1_fits(computed):
    signature, inputs, outputs = computed
    columns = {
        name: rest_v1._json_value(in_decimals(array), name) for name, array in inputs.items()
    }
    forms = [{"inputs": columns}]
    if all(array.ndim and len(array) for array in inputs.values()) and _have_rows(inputs):
        rows = [rest_v1._json_rows(array, name) for name, array in inputs.items()]
        forms.append({"instances": [dict(zip(inputs, row, strict=True)) for row in zip(*rows)]})  # noqa: B905
    for form in forms:
        body = rest_v1.dump(form)
        assert _fits(tensor_schemas.v1_request({"s": signature}, "s"), body)
        request, _ = rest_v1.decode_predict(body, {"s": signature}, "s")
        check(request.inputs, signature, "m")
    for row_form in (False, True):
        if row_form and not (all(a.ndim for a in outputs.values()) and _have_rows(outputs)):
            continue
        body = rest_v1.encode_predict(InferResponse("m", 1, outputs), signature, row_form)
        assert _fits(tensor_schemas.v1_response([signature]), body)


def _have_rows(tensors):
    return len({len(array) for array in tensors.values()}) == 1


_TWO = Signature(
    "two",
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("n", "INT8", (-1,))),
    (TensorSpec("y", "FP32", (-1,)), TensorSpec("raw_bytes", "BYTES", (-1,))),
    True,
)
_ONE = Signature("one", (TensorSpec("s", "BYTES", (-1,)),), (TensorSpec("z", "BOOL", ()),), True)
_BOTH = {"two": _TWO, "one": _ONE}
_X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}
_N = {"name": "n", "datatype": "INT8", "shape": [1], "data": [-128]}
_S = {"name": "s", "datatype": "BYTES", "shape": [1], "data": ["a"]}


def _with(tensor, **changes):
    return {"inputs": [{**tensor, **changes}, _N]}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"inputs": []},
        {"inputs": [_X]},
        {"inputs": [_X, _X]},
        {"inputs": [_X, _N, _N]},
        {"inputs": [_S]},
        {"inputs": [_S], "parameters": {"signature_name": "two"}},
        {"inputs": [_X, _N], "id": 7},
        {"inputs": [_X, _N], "outputs": [{"name": "z"}]},
        {"inputs": [_X, _N], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
        {"inputs": [_X, _N], "parameters": {"signature_name": "three"}},
        {"inputs": [_X, _N], "parameters": {"timeout": -1}},
        {"inputs": [_X, _N], "parameters": {"binary_data_output": "yes"}},
        _with(_X, name="z"),
        _with(_X, datatype="FP64"),
        _with(_X, shape=[1, 2, 1]),
        _with(_X, shape=[1, 3], data=[1, 2, 3]),
        _with(_X, shape=[-1, 2]),
        _with(_X, data=[[1, 2, 3]]),
        _with(_X, data=["1", "2"]),
        _with(_X, data=[1e39, 1]),
        {"inputs": [_X, {**_N, "data": [128]}]},
        {"inputs": [_X, {**_N, "data": [0.5]}]},
        {"inputs": [_X, {key: value for key, value in _N.items() if key != "data"}]},
    ],
)
def test_what_v2_refuses_for_its_form_does_not_fit(document):
    schema = tensor_schemas.v2_request(_BOTH, "two")
    assert not _fits(schema, json.dumps(document))
    with pytest.raises(InvalidRequest):
        _served_v2(document)


def _served_v2(document):
    request, _ = rest_v2.decode_request(json.dumps(document).encode(), None)
    signature = _BOTH.get(request.signature or "two")
    if signature is None or set(request.outputs or ()) - {each.name for each in signature.outputs}:
        raise InvalidRequest("by the model")
    check(request.inputs, signature, "m")


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [_N, _X]},
        {"inputs": [_S], "parameters": {"signature_name": "one"}, "outputs": [{"name": "z"}]},
        _with(_X, shape=[0, 2], data=[]),
        {"inputs": [_X, _N], "parameters": {"own": 1, "timeout": 0}, "outputs": []},
    ],
)
def test_what_v2_takes_in_another_form_fits(document):
    _served_v2(document)
    assert _fits(tensor_schemas.v2_request(_BOTH, "two"), json.dumps(document))


@pytest.mark.parametrize(
    ("document", "is_right"),
    [
        ({"instances": [{"x": [1, 2], "n": 3}]}, True),
        ({"inputs": {"x": [[1, 2]], "n": [3]}, "signature_name": ""}, True),
        ({"instances": ["a", {"b64": "YQ=="}], "signature_name": "one"}, True),
        ({"instances": [{"s": "a"}], "signature_name": "one"}, True),
        ({"inputs": ["a"], "signature_name": "one"}, True),
        ({}, False),
        ({"instances": ["a", {"s": "a"}], "signature_name": "one"}, False),
        ({"instances": [], "signature_name": "one"}, False),
        ({"instances": ["a"]}, False),
        ({"instances": [{"x": [1, 2], "n": 3}], "inputs": {"x": [[1, 2]], "n": [3]}}, False),
        ({"instances": [{"x": [1, 2]}]}, False),
        ({"instances": [{"x": [1, 2], "n": 3, "m": 1}]}, False),
        ({"instances": [{"x": [1, 2, 3], "n": 3}]}, False),
        ({"instances": [1], "signature_name": "one"}, False),
        ({"instances": [{"b64": 1}], "signature_name": "one"}, False),
        ({"inputs": {"x": [[1, 2]], "n": [3]}, "signature_name": "three"}, False),
        ({"inputs": {"x": [[1, 2]], "n": [3]}, "signature_name": None}, False),
    ],
)
def test_v1s_forms_fit_and_no_others(document, is_right):
    def served():
        request, _ = rest_v1.decode_predict(json.dumps(document).encode(), _BOTH, "two")
        check(request.inputs, _BOTH[request.signature], "m")

    assert _fits(tensor_schemas.v1_request(_BOTH, "two"), json.dumps(document)) is is_right
    if is_right:
        served()
    else:
        with pytest.raises(InvalidRequest):
            served()


def test_half_floats_go_as_json_over_v1_alone():
    half = Signature("h", (TensorSpec("x", "FP16", (-1,)),), (TensorSpec("y", "BF16", ()),), True)
    assert tensor_schemas.v2_request({"h": half}, "h") is None
    assert tensor_schemas.v2_response("m", [half]) is None
    assert _fits(tensor_schemas.v1_request({"h": half}, "h"), b'{"instances": [65504]}')
    assert not _fits(tensor_schemas.v1_request({"h": half}, "h"), b'{"instances": [65536]}')
    assert _fits(tensor_schemas.v1_response([half]), b'{"outputs": 0.5}')


def test_inputs_without_rows_have_no_row_form():
    single = Signature("s", (TensorSpec("x", "FP32", ()),), (), False)
    schema = tensor_schemas.v1_request({"s": single}, "s")
    assert _fits(schema, b'{"inputs": 1.5}')
    assert not _fits(schema, b'{"instances": [1.5]}')
