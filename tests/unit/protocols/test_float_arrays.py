"""Arrays that are read in one go are those that the reader of all other documents gives."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ServeError
from serve.protocols import float_arrays, rest_v1, rest_v2
from serve.protocols.float_arrays import parse_with_floats
from serve.types import Signature, TensorSpec

SIGNATURES = {"s": Signature("s", (TensorSpec("x", "FP32", None),), (), True)}


@pytest.fixture(autouse=True)
def small_bodies(monkeypatch):
    monkeypatch.setattr(float_arrays, "_LEAST_BYTES", 0)


def _outcome(decode, body):
    try:
        request, _ = decode(body)
    except ServeError as err:
        return str(err)
    return {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in request.inputs.items()}


def _both(monkeypatch, module, decode, body):
    """Return what is made of a body with and without arrays that are read in one go."""
    at_once = _outcome(decode, body)
    with monkeypatch.context() as patched:
        patched.setattr(module, "parse_with_floats", lambda *_: None)
        return at_once, _outcome(decode, body)


def _v1(body):
    return rest_v1.decode_predict(body, SIGNATURES, "s")


def _v2(body):
    return rest_v2.decode_request(body, None)


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -0.0, 1e-320, 2**53 + 1, 2**64 - 1, 2**64, 1e300]),
)
others = st.sampled_from([True, None, "1", "[", {}, {"b64": "AA=="}, float("nan")])


@st.composite
def nested(draw):
    """Draw nested lists of numbers, often regular, now and then with something else among them."""
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))

    def build(sizes):
        if not sizes:
            return draw(numbers)
        return [build(sizes[1:]) for _ in range(sizes[0])]

    made = build(shape)
    place = made
    while isinstance(place, list) and place and draw(st.booleans()):
        index = draw(st.integers(0, len(place) - 1))
        if draw(st.integers(0, 3)) == 0:
            place[index] = draw(st.one_of(others, numbers, st.just([]), st.just([1.0])))
        place = place[index]
    return made


@st.composite
def texts(draw, document):
    """Draw the text of a document, whole, or with a character too few or too many."""
    indent = draw(st.sampled_from([None, 1]))
    text = json.dumps(document, indent=indent)
    place = draw(st.integers(0, len(text)))
    match draw(st.integers(0, 3)):
        case 0:
            text = text[:place] + text[place + 1 :]
        case 1:
            text = text[:place] + draw(st.sampled_from('[],1-. e"\\{}:')) + text[place:]
    return text.encode()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_v1_body_means_the_same_as_without(data):
    key = data.draw(st.sampled_from(["instances", "inputs"]))
    document = {key: data.draw(nested())}
    if data.draw(st.booleans()):
        document["signature_name"] = data.draw(st.sampled_from(["s", "t", "[[],[]]", 'x":[', ""]))
    body = data.draw(texts(document))
    with pytest.MonkeyPatch.context() as monkeypatch:
        at_once, one_by_one = _both(monkeypatch, rest_v1, _v1, body)
    assert at_once == one_by_one


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_v2_body_means_the_same_as_without(data):
    values = data.draw(nested())
    shape = data.draw(st.sampled_from([[len(values)], list(np.shape(_regular(values)))]))
    tensor = {
        "name": "x",
        "datatype": data.draw(st.sampled_from(["FP32", "FP64", "FP16", "INT64", "BOOL"])),
        "shape": shape,
        "data": values,
    }
    document = {"inputs": [tensor], "parameters": {"data": data.draw(st.sampled_from([1, [1]]))}}
    if data.draw(st.booleans()):
        del document["parameters"]
    body = data.draw(texts(document))
    with pytest.MonkeyPatch.context() as monkeypatch:
        at_once, one_by_one = _both(monkeypatch, rest_v2, _v2, body)
    assert at_once == one_by_one


def _regular(values):
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(len(values))


@pytest.mark.parametrize(
    "text",
    [
        b'{"instances": [[1], [2, 3]]}',
        b'{"instances": [[1, 2], [3]]}',
        b'{"instances": [[], [1, 2]]}',
        b'{"instances": [[1, 2], []]}',
        b'{"instances": [1, [2]]}',
        b'{"instances": [[1], 2]}',
        b'{"instances": [5[1], [2]]}',
        b'{"instances": [[1], [2]], "instances": [[3], [4]]}',
        b'{"\\u0069nstances": [[1], [2, 3]], "x": {"instances": [[1], [2]]}}',
        b'{"instances": [[1], [2, 3]], "einstances": [[1], [2]]}',
        b'{"x": "\\"instances\\":[[],[]]", "instances": [[1, 2], []]}',
        b'{"instances": []}',
        b'{"instances": [[]]}',
        b'{"instances": 1}',
        b'{"instances": [NaN, 1]}',
        b'{"instances": [true, 1]}',
        b'{"instances": ["1"]}',
        b"[[1]]",
        b"",
        b"{",
    ],
)
def test_what_is_no_one_regular_array_of_numbers_is_left_to_the_other_reader(text):
    assert parse_with_floats(text, ("instances",)) is None


def test_the_rest_of_a_document_is_as_python_has_it():
    document = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [[1], [2.5]]}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        "parameters": {"timeout": 5, "ratio": 0.5, "none": None},
        "id": "é",
    }
    read = parse_with_floats(
        json.dumps(document, ensure_ascii=False).encode(),
        ("inputs", 0, "data"),
        frozenset({"FP32"}),
    )
    array = read["inputs"][0].pop("data")
    assert array.tolist() == document["inputs"][0].pop("data")
    assert read == document


@pytest.mark.parametrize("count", [0, 2])
def test_arrays_of_several_tensors_are_read_one_by_one(count):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    body = json.dumps({"inputs": [tensor] * count}).encode()
    assert parse_with_floats(body, ("inputs", 0, "data"), frozenset({"FP32"})) is None


def test_a_model_of_integers_gets_integers_of_all_their_digits():
    integers = {"s": Signature("s", (TensorSpec("x", "INT64", (-1,)),), (), True)}
    request, _ = rest_v1.decode_predict(b'{"instances": [9007199254740993]}', integers, "s")
    assert request.inputs["x"].tolist() == [9007199254740993]
