"""Arrays that are read in one go are those that the reader of all other documents gives."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ServeError
from serve.protocols import float_arrays, rest_v1, rest_v2
from serve.protocols.float_arrays import cut_array, read_floats
from serve.types import InferRequest, Signature, TensorSpec

SIGNATURES = {"s": Signature("s", (TensorSpec("x", "FP32", None),), (), True)}


@pytest.fixture(autouse=True)
def small_bodies(monkeypatch):
    monkeypatch.setattr(float_arrays, "_LEAST_BYTES", 0)


def _outcome(decode, body):
    try:
        made, how = decode(body)
    except ServeError as err:
        return type(err), str(err)
    tensors = made.inputs if isinstance(made, InferRequest) else made.outputs
    arrays = {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in tensors.items()}
    return arrays, repr(replace(made, **{_field(made): {}})), how


def _field(made):
    return "inputs" if isinstance(made, InferRequest) else "outputs"


def _same(module, decode, body):
    """Assert that a body means the same with and without arrays that are read in one go.

    It is decoded twice at once: the second time from what is kept of the first.
    """
    at_once = [_outcome(decode, body) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "cut_array", lambda *_: None)
        one_by_one = _outcome(decode, body)
    assert at_once == [one_by_one] * 2


def _v1(body):
    return rest_v1.decode_predict(body, SIGNATURES, "s")


def _v2(body):
    return rest_v2.decode_request(body, None)


def _v2_response(body):
    return rest_v2.decode_response(body, None), None


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


class Pairs(list):
    """A JSON object as it is written: pairs of keys and values, in an order, keys twice or not."""


@st.composite
def texts(draw, document):
    """Draw the text of a document, whole, or with a character too few or too many."""
    space = draw(st.sampled_from(["", "", " ", "\n\t"]))
    text = _written(document, space, draw(st.booleans()))
    place = draw(st.integers(0, len(text)))
    match draw(st.integers(0, 5)):
        case 0:
            text = text[:place] + text[place + 1 :]
        case 1:
            text = text[:place] + draw(st.sampled_from('[],1-. e"\\{}:')) + text[place:]
    return text.encode()


def _written(value, space, ascii_only):
    if isinstance(value, Pairs):
        pairs = (
            f"{space}{json.dumps(key)}{space}:{space}{_written(each, space, ascii_only)}{space}"
            for key, each in value
        )
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(each, space, ascii_only) + space for each in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


# Names and values that look like the place of an array, or the end of one.
odd = st.sampled_from(
    ["x", "data", "inputs", '"data":[', '"data":[[1]]}', "data:[", "}", "]", "é", "\\", "", ":"]
)


@st.composite
def tensors(draw):
    """Draw a tensor of V2, most often a good one, its keys in any order and some of them twice."""
    values = draw(nested())
    regular = list(np.shape(_regular(values)))
    pairs = [
        ("name", draw(st.just("x") | odd)),
        ("datatype", draw(st.sampled_from(["FP32", "FP32", "FP64", "FP16", "INT64", "BOOL"]))),
        ("shape", draw(st.sampled_from([regular, regular, [len(values)], [math.prod(regular)]]))),
        ("data", values),
    ]
    if draw(st.integers(0, 3)) == 0:
        other = draw(st.one_of(nested(), odd, st.just(Pairs([("data", values)]))))
        pairs.append((draw(st.sampled_from(["data", "shape", "datatype", "Data", "data "])), other))
    if draw(st.integers(0, 3)) == 0:
        size = draw(st.sampled_from([("data", values), ("binary_data_size", 4), ("note", "data")]))
        pairs.append(("parameters", Pairs([size])))
    if draw(st.integers(0, 9)) == 0:
        del pairs[draw(st.integers(0, len(pairs) - 1))]
    return Pairs(draw(st.permutations(pairs)))


@st.composite
def v2_documents(draw, key):
    """Draw a document with tensors under a key, most often one, and with more, before or behind."""
    pairs = [
        (key, draw(st.lists(tensors(), min_size=1, max_size=draw(st.sampled_from([1, 1, 2])))))
    ]
    more = [
        ("id", draw(odd)),
        ("parameters", Pairs([("data", draw(odd | nested())), ("timeout", 5)])),
        ("parameters", Pairs([("binary_data_output", draw(st.sampled_from([True, 1])))])),
        ("parameters", Pairs([("ratio", draw(st.sampled_from([0.5, float("nan"), None])))])),
        ("outputs", [Pairs([("name", draw(odd))])]),
        ("data", draw(nested())),
        ("model_version", "3"),
        (key, [draw(tensors())]),
        (draw(odd), draw(odd)),
    ]
    pairs += draw(st.lists(st.sampled_from(more), max_size=2))
    return Pairs(draw(st.permutations(pairs)))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_v1_body_means_the_same_as_without(data):
    key = data.draw(st.sampled_from(["instances", "inputs"]))
    pairs = [(key, data.draw(nested()))]
    more = [
        ("signature_name", data.draw(st.sampled_from(["s", "t", "[[],[]]", 'x":[', ""]))),
        (key, data.draw(nested())),
        ("x", Pairs([(key, data.draw(nested()))])),
        (key, Pairs([("x", data.draw(nested()))])),
        (data.draw(odd), data.draw(odd)),
    ]
    pairs += data.draw(st.lists(st.sampled_from(more), max_size=2))
    body = data.draw(texts(Pairs(data.draw(st.permutations(pairs)))))
    _same(rest_v1, _v1, body)


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_a_v2_body_means_the_same_as_without(data):
    key = data.draw(st.sampled_from(["inputs", "inputs", "outputs"]))
    body = data.draw(texts(data.draw(v2_documents(key))))
    _same(rest_v2, _v2 if key == "inputs" else _v2_response, body)


def _regular(values):
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(len(values))


@pytest.mark.parametrize(
    "text",
    [
        b"[[1], [2, 3]]",
        b"[[1, 2], [3]]",
        b"[[], [1, 2]]",
        b"[[1, 2], []]",
        b"[[1], []]",
        b"[[1, 2], [3], [4, 5, 6]]",
        b"[1, [2]]",
        b"[[1], 2]",
        b"[[1, 2], 3]",
        b"[1, [2, 3]]",
        b"[[[1, 2]], 3]",
        b"[[[1, 2], 3]]",
        b"[5[1], [2]]",
        b"[]",
        b"[[]]",
        b"[[], []]",
        b"1",
        b"[NaN, 1]",
        b"[true, 1]",
        b"[1, null]",
        b"[1, false]",
        b'["1"]',
        b"[{}]",
        b"[1e999]",
        b"[01]",
        b"[1] [2]",
        b"[1]]",
        b"[1",
        b"",
        b"[" * 33 + b"1" + b"]" * 33,
        b"[" * 33 + b"1,1" + b"]" * 33,
    ],
)
def test_what_is_no_regular_array_of_numbers_is_left_to_the_other_reader(text):
    assert read_floats(text) is None


def test_brackets_are_not_made_for_a_text_that_has_fewer(monkeypatch):
    made = []
    monkeypatch.setattr(float_arrays, "_kept_brackets", made.append)
    assert read_floats(b"[" + b"[" * 20 + b"1" + b"]" * 20 + b",1" * 1000 + b"]") is None
    assert not made


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (b"[1]", [1.0]),
        (b"[ 1 , -2.5e3 ]", [1.0, -2500.0]),
        (b"[ [\n[1,2] ] ]", [[[1.0, 2.0]]]),
        (b"[[1, 2], [3, 4]]", [[1.0, 2.0], [3.0, 4.0]]),
        (b"[[1], [2]]", [[1.0], [2.0]]),
        (b"[9007199254740993, 18446744073709551615]", [9007199254740992.0, 1.8446744073709552e19]),
    ],
)
def test_numbers_come_as_they_are_nested(text, numbers):
    assert read_floats(text).tolist() == numbers


@pytest.mark.parametrize(
    ("body", "text", "array"),
    [
        (b'{"x": [[1], 2]}', b'{"x": []}', b"[[1], 2]"),
        (b'{"x" :\n[1] , "y":[2]}', b'{"x" :\n[] , "y":[2]}', b"[1]"),
        (b'{"y":"x","x":[1]}', b'{"y":"x","x":[]}', b"[1]"),
        (b'{"x":[1],"y":"x"}', b'{"x":[],"y":"x"}', b"[1]"),
        (b'{"a":[{"x":[1]}]}', b'{"a":[{"x":[]}]}', b"[1]"),
    ],
)
def test_the_array_under_a_key_is_cut_out(body, text, array):
    assert cut_array(body, "x") == (text, array)


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": [1], "x": [2]}',
        b'{"x": [1], "y": {"x": 2}}',
        b'{"x": 1, "y": {"x": [2]}}',
        b'{"y": "\\"x\\":[", "x": [1]}',
        b'{"x": [1], "\\u0078": [1]}',
        b'{"x": ["1"]}',
        b'{"x": [{}]}',
        b'{"x": [1',
        b'{"x": 1}',
        b'{"x": }]',
        b'{"y": "x"}',
        b'{"y": [1]}',
        b"",
    ],
)
def test_what_is_not_the_one_array_under_a_key_is_not_cut_out(body):
    cut = cut_array(body, "x")
    assert cut is None or read_floats(cut[1]) is None


def _v2_body(name, values, **more):
    tensor = {"name": name, "datatype": "FP32", "shape": [len(values)], "data": values}
    return json.dumps({"inputs": [tensor], **more}).encode()


def _record_parsed(monkeypatch, module):
    parsed = []
    parse = module.parse_object
    monkeypatch.setattr(module, "parse_object", lambda text: parsed.append(text) or parse(text))
    return parsed


def test_requests_that_differ_in_their_numbers_are_parsed_once_and_keep_their_numbers(monkeypatch):
    parsed = _record_parsed(monkeypatch, rest_v2)
    first, _ = _v2(_v2_body("once", [1, 2], parameters={"timeout": 5}))
    second, _ = _v2(_v2_body("once", [3, 4], parameters={"timeout": 5}))
    assert parsed == [_v2_body("once", [], parameters={"timeout": 5}).replace(b"[0]", b"[2]")]
    assert first.inputs["once"].tolist() == [1, 2]
    assert second.inputs["once"].tolist() == [3, 4]
    assert (second.timeout_s, second.parameters) == (5e-6, {"timeout": 5})


def test_descriptions_that_are_long_are_not_kept(monkeypatch):
    parsed = _record_parsed(monkeypatch, rest_v2)
    body = _v2_body("long", [1, 2], id="7" * rest_v2._SAME_AGAIN_BYTES)
    assert _v2(body)[0].id == _v2(body)[0].id
    assert len(parsed) == 2


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_numbers_of_v1_are_not_parsed_one_by_one(monkeypatch, key):
    parsed = _record_parsed(monkeypatch, rest_v1)
    request, row_form = _v1(json.dumps({key: [[1, 2]], "signature_name": "s"}).encode())
    assert parsed == [json.dumps({key: [], "signature_name": "s"}).encode()]
    assert request.inputs["x"].tolist() == [[1, 2]]
    assert row_form == (key == "instances")


@pytest.mark.parametrize(
    "other", [{"shape": {"data": [1, 2]}}, {"datatype": {"data": [1, 2]}}, {"shape": [-1]}]
)
def test_an_error_may_quote_the_array(other):
    tensor = {"name": "x", "datatype": "FP32", "shape": [2]} | other
    _same(rest_v2, _v2, json.dumps({"inputs": [tensor]}).encode())


@pytest.mark.parametrize("place", ["document", "parameters", "binary_data_size"])
def test_an_array_elsewhere_is_not_that_of_a_tensor_without_data(place):
    size: dict = {"binary_data_size": 8}
    parameters: dict = {}
    tensor = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": size}
    document = {"inputs": [tensor], "parameters": parameters}
    holders = {"document": document, "parameters": parameters, "binary_data_size": size}
    holders[place]["data"] = [1, 2]
    _same(rest_v2, _v2, json.dumps(document).encode())


@pytest.mark.parametrize("count", [0, 2])
def test_arrays_of_several_tensors_are_read_one_by_one(count):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    _same(rest_v2, _v2, json.dumps({"inputs": [tensor] * count}).encode())


@pytest.mark.parametrize("size", [0, 4])
@pytest.mark.parametrize("step", [1, -1])
def test_a_tensor_beside_that_of_the_array_is_not_lost(size, step):
    array = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    raw = {"name": "y", "datatype": "FP32", "shape": [size // 4]}
    raw["parameters"] = {"binary_data_size": size}
    _same(rest_v2, _v2, json.dumps({"inputs": [array, raw][::step]}).encode())


def test_a_model_of_integers_gets_integers_of_all_their_digits():
    integers = {"s": Signature("s", (TensorSpec("x", "INT64", (-1,)),), (), True)}
    request, _ = rest_v1.decode_predict(b'{"instances": [9007199254740993]}', integers, "s")
    assert request.inputs["x"].tolist() == [9007199254740993]
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [9007199254740993]}
    request, _ = _v2(json.dumps({"inputs": [tensor]}).encode())
    assert request.inputs["x"].tolist() == [9007199254740993]
