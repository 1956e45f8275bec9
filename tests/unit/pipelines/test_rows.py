import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import InferenceFailed
from serve.pipelines.rows import choose, fill_missing, put, require_rows
from serve.types import TensorSpec


@given(st.lists(st.integers(0, 3), max_size=30))
def test_rows_that_went_different_ways_come_back_to_their_places(ways):
    ways = np.array(ways, int)
    total = len(ways)
    tensors = {
        "id": np.arange(total),
        "table": np.arange(total * 6, dtype=np.float32).reshape(total, 2, 3),
        "text": np.array([b"row %d" % i for i in range(total)], object),
    }
    back = {}
    for way in set(ways.tolist()):
        rows = np.flatnonzero(ways == way)
        put(back, rows, choose(tensors, rows), total)
    for name, array in (tensors if total else {}).items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_a_row_that_nobody_computed_holds_nan_an_empty_text_or_zero():
    into = {}
    outputs = {
        "p": np.ones((1, 2), np.float16),
        "text": np.array([b"a"], object),
        "n": np.ones(1, np.uint8),
        "is": np.ones(1, bool),
    }
    put(into, np.array([1]), outputs, 2)
    assert np.isnan(into["p"][0]).all()
    assert (into["text"][0], into["n"][0], into["is"][0]) == (b"", 0, False)
    assert [into[name].dtype for name in outputs] == [a.dtype for a in outputs.values()]


def test_a_later_layer_overwrites_what_an_earlier_one_wrote():
    into = {}
    put(into, np.array([0, 1, 2]), {"y": np.array([1, 2, 3])}, 3)
    put(into, np.array([2, 0]), {"y": np.array([30, 10])}, 3)
    assert into["y"].tolist() == [10, 2, 30]


def test_outputs_that_no_row_has_are_there_with_their_datatype():
    specs = (
        TensorSpec("there", "INT64", (-1,)),
        TensorSpec("p", "FP64", (-1, -1, 3)),
        TensorSpec("text", "BYTES", (-1,)),
        TensorSpec("any", "INT8", None),
    )
    there = np.array([1, 2])
    into = {"there": there}
    fill_missing(into, specs, 2)
    assert into["there"] is there
    assert (into["p"].shape, into["p"].dtype) == ((2, 0, 3), np.float64)
    assert into["text"].tolist() == [b"", b""]
    assert (into["any"].shape, into["any"].dtype) == ((2,), np.int8)


def test_rows_of_another_shape_are_not_stretched_into_place():
    into = {"p": np.zeros((2, 3))}
    with pytest.raises(
        InferenceFailed, match=r"outputs 'p' differ in shape, \[3\] and \[1\] a row"
    ):
        put(into, np.array([1]), {"p": np.ones((1, 1))}, 2)


def test_a_missing_row_of_bfloat16_is_nan_as_of_other_floats():
    into = {}
    put(into, np.array([0]), {"p": np.ones(1, ml_dtypes.bfloat16)}, 2)
    assert np.isnan(into["p"].astype(np.float32)).tolist() == [False, True]


@pytest.mark.parametrize("output", [np.ones(()), np.ones(1), np.ones((5, 2))])
def test_other_rows_than_were_given_are_refused_with_member_and_shape(output):
    require_rows("m", {"p": np.ones((4, 2))}, 4)
    shape = re.escape(str(list(output.shape)))
    with pytest.raises(
        InferenceFailed, match=f"'m' was given 4 rows and its output 'p' is {shape}"
    ):
        require_rows("m", {"p": output}, 4)
