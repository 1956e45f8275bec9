"""Tensor data on the wire: every array comes back, and data that does not fit is refused."""

import json
import math
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serve.datatypes import DATATYPES, from_numpy
from serve.errors import InvalidRequest
from serve.protocols.json_documents import dump
from serve.protocols.tensors import (
    as_array,
    as_numbers,
    check_shape,
    from_bytes,
    from_json,
    to_bytes,
    to_json,
)
from tests.unit.protocols.strategies import bfloats, numbers, strings, text

_NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)
_INTEGERS = [d for d in DATATYPES.values() if d.numpy.kind in "iu"]
_IN_JSON = ("bool", "uint8", "uint64", "int64", "float32", "float64")


def _refusal(call, *args):
    with pytest.raises(InvalidRequest) as caught:
        call(*args)
    return str(caught.value)


@given(numbers(finite=False) | bfloats(finite=False) | strings())
def test_raw_data_comes_back_bit_by_bit(array):
    data = memoryview(to_bytes(array))
    got = from_bytes(data, from_numpy(array.dtype), array.shape, "a")
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    assert to_bytes(got) == bytes(data)
    if array.size and not array.dtype.hasobject:
        assert np.shares_memory(got, np.frombuffer(data, np.uint8)), "numbers are not copied"


@given(strings())
def test_raw_strings_are_laid_out_as_tritonclient_lays_them_out(array):
    from tritonclient.utils import deserialize_bytes_tensor

    assert deserialize_bytes_tensor(to_bytes(array)).tolist() == array.ravel().tolist()


def test_raw_numbers_are_little_endian_and_row_major():
    transposed = np.array([[1, 3], [2, 4]], np.uint16).T
    assert to_bytes(transposed) == b"\1\0\2\0\3\0\4\0"


@given(numbers() | bfloats() | strings(), st.integers(1, 9), st.booleans())
def test_raw_data_that_is_cut_or_longer_is_refused(array, difference, is_longer):
    data = to_bytes(array)
    if not is_longer:
        difference = min(difference, len(data))
    wrong = data + b"\0" * difference if is_longer else data[: len(data) - difference]
    if wrong != data:
        said = _refusal(from_bytes, memoryview(wrong), from_numpy(array.dtype), array.shape, "a")
        assert said.startswith("tensor 'a'")


def test_a_string_cannot_claim_more_than_there_is():
    huge = b"\xff\xff\xff\xff" + b"x"
    said = _refusal(from_bytes, memoryview(huge), DATATYPES["BYTES"], (1,), "a")
    assert said == "tensor 'a': the data ends within string 0 of 1"


def _json(array):
    return json.loads(dump(to_json(array, "a")))


@given(numbers(_IN_JSON, finite=False) | text())
def test_json_data_may_be_flat_or_nested(array):
    for data in (_json(array.reshape(-1)), _json(array)):
        got = from_json(data, from_numpy(array.dtype), array.shape, "a")
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(
    ("shape", "nested"),
    [((0, 3), []), ((2, 0), [[], []]), ((2, 0, 3), [[], []]), ((2, 1, 0, 4), [[[]], [[]]])],
)
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_an_empty_tensor_is_nested_as_far_as_lists_can_show(shape, nested, datatype):
    for data in ([], nested):
        assert from_json(data, DATATYPES[datatype], shape, "a").shape == shape
    with pytest.raises(InvalidRequest, match="neither flat nor nested"):
        from_json([[], [], []], DATATYPES[datatype], shape, "a")


@st.composite
def _integers(draw):
    """Draw an integer datatype and numbers, of which few are beyond its limits, by one."""
    datatype = draw(st.sampled_from(_INTEGERS))
    limits = np.iinfo(datatype.numpy)
    number = st.integers(0, 3) | st.integers(limits.min - 1, limits.max + 1)
    return datatype, draw(st.lists(number, min_size=1, max_size=4))


@given(_integers())
@example((DATATYPES["UINT64"], [0, 2**64 - 1]))  # which numpy makes floats
@example((DATATYPES["UINT64"], [-1, 2**64 - 1]))
def test_json_integers_are_exact_or_refused(drawn):
    datatype, data = drawn
    limits = np.iinfo(datatype.numpy)
    if all(limits.min <= number <= limits.max for number in data):
        assert as_array(data, datatype, "a").tolist() == data
    else:
        assert _refusal(as_array, data, datatype, "a").endswith(f"type: {datatype.name}")


@given(_NESTED, st.sampled_from([*DATATYPES.values()]))
def test_any_json_becomes_an_array_of_the_datatype_or_is_refused(data, datatype):
    with suppress(InvalidRequest):
        assert as_array(data, datatype, "a").dtype == datatype.numpy


@pytest.mark.parametrize(
    "data", [[[1], [1, 2]], [[1], 2], [1, [2]], [[], [1]], [[[1]], [1]], ["a", ["b"]]]
)
@pytest.mark.parametrize("datatype", ["INT32", "FP64", "BYTES"])
def test_ragged_json_is_refused(data, datatype):
    assert "ragged" in _refusal(as_array, data, DATATYPES[datatype], "a")


def test_json_that_is_nested_deeper_than_any_shape_is_refused():
    data = [1.0]
    for _ in range(200):
        data = [data]
    for datatype in ("FP32", "BYTES"):
        assert "deep" in _refusal(as_array, data, DATATYPES[datatype], "a")


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 1), (1, 2, 2)])
def test_json_data_of_another_shape_is_refused(shape):
    said = _refusal(from_json, [[1, 2], [3, 4]], DATATYPES["INT8"], shape, "a")
    assert said.startswith("tensor 'a': data of shape [2, 2] is neither flat nor nested for shape")


_SIZES = st.integers(-2, 40) | st.booleans() | st.floats() | st.none() | st.text(max_size=2)


@given(st.lists(_SIZES, max_size=4) | st.integers(30, 34).map(lambda n: [1] * n) | _SIZES)
def test_a_shape_is_a_list_of_at_most_32_sizes(shape):
    good = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if good and len(shape) <= 32:
        assert check_shape(shape, "a") == tuple(shape)
    else:
        assert "list of at most 32 sizes >= 0" in _refusal(check_shape, shape, "a")


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT32", [True, 2]),
        ("INT32", [2, False]),
        ("UINT8", [[1, 1], [0, True]]),
        ("FP32", [1.5, True]),
        ("FP64", [True]),
        ("BOOL", [True, 1]),
        ("BOOL", [0]),
        ("FP32", [1.0, None]),
        ("FP64", None),
        ("INT8", [None]),
        ("BOOL", [None]),
        ("BYTES", ["a", None]),
        ("FP32", ["1"]),
        ("INT32", [1.0]),
        ("INT8", [128]),
        ("UINT64", [-1]),
        ("FP64", [10**400]),
        ("FP32", [{"b64": ""}]),
    ],
)
def test_an_element_of_another_type_is_refused(datatype, data):
    said = _refusal(as_array, data, DATATYPES[datatype], "a")
    assert f"not of expected type: {datatype}" in said


@pytest.mark.parametrize(("name", "most"), [("FP16", 65504), ("BF16", 3.3e38), ("FP32", 3.4e38)])
def test_a_number_beyond_its_datatype_is_refused_and_an_infinity_is_one(name, most):
    datatype = DATATYPES[name]
    assert np.isfinite(as_numbers([most, -most], datatype, "a")).all()
    said = _refusal(as_numbers, [1.0, most * 1.1], datatype, "a")
    assert said == f"tensor 'a': data has a number that is too large for {name}"
    assert np.isinf(as_numbers([math.inf, -math.inf, 1], datatype, "a")).tolist() == [1, 1, 0]
    assert np.isnan(as_numbers([math.nan, 1], datatype, "a")).tolist() == [1, 0]


@pytest.mark.parametrize("array", [np.array(["ab", "c"]), np.array([b"ab", b"c"])])
def test_strings_of_numpy_s_own_types_travel_as_bytes(array):
    assert to_bytes(array) == b"\2\0\0\0ab\1\0\0\0c"
    assert to_json(array, "a") == ["ab", "c"]


@pytest.mark.parametrize("array", [np.ones(1, np.float16), np.ones(1, DATATYPES["BF16"].numpy)])
def test_half_floats_do_not_travel_as_json(array):
    name = from_numpy(array.dtype).name
    assert _refusal(to_json, array, "a").startswith(f"sending {name} data via JSON")
    assert _refusal(as_array, [1.0], from_numpy(array.dtype), "a").startswith(f"receiving {name}")


def test_bytes_that_are_no_text_do_not_travel_as_json():
    said = _refusal(to_json, np.array([b"good", b"\xff"], object), "a")
    assert said == "output 'a' holds bytes that are not UTF-8; ask for binary data"


def test_every_byte_but_zero_is_true():
    array = from_bytes(memoryview(b"\x00\x01\x02\xff"), DATATYPES["BOOL"], (2, 2), "x")
    assert array.view(np.uint8).tolist() == [[0, 1], [1, 1]]
    assert array.dtype == np.bool_
