"""From rows to numbers a row: whatever the tensor is."""

from typing import get_args

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.drift.bins import BINS, count, edges_of
from serve.drift.statistics import Kind, statistics
from tests.unit.protocols.strategies import bfloats, numbers, strings, text

KINDS = get_args(Kind)


@given(st.sampled_from(KINDS), st.one_of(numbers(finite=False), bfloats(), strings(), text()))
def test_any_tensor_has_one_number_a_row_and_every_row_falls_into_one_bin(kind, array):
    rows = len(array) if array.ndim else 1
    for values in statistics(kind, array).values():
        assert values.shape == (rows,)
        assert values.dtype.kind == "f"
        edges = edges_of(values)
        assert np.isfinite(edges).all()
        assert (np.diff(edges) > 0).all()
        assert len(edges) <= 2 * BINS
        assert count(values, edges).sum() == rows


@given(numbers(), st.randoms())
def test_a_rows_statistics_do_not_depend_on_the_rows_beside_it(array, random):
    array = np.atleast_1d(array)
    order = list(range(len(array)))
    random.shuffle(order)
    for kind in KINDS:
        together = statistics(kind, array[order])
        for name, values in statistics(kind, array).items():
            np.testing.assert_array_equal(together[name], values[order])


def test_a_large_row_is_its_mean_and_deviation_and_a_small_one_its_numbers():
    images = np.array([[[0, 2], [4, 6]]], np.uint8)
    assert {k: v.tolist() for k, v in statistics("summary", images).items()} == {
        "mean": [3.0],
        "deviation": [pytest.approx(np.std([0, 2, 4, 6]))],
    }
    features = statistics("features", np.array([[True, False]]))
    assert {name: values.tolist() for name, values in features.items()} == {"0": [1.0], "1": [0.0]}


def test_probabilities_are_the_class_and_how_sure_the_model_is():
    table = np.array([[0.25, 0.75], [np.nan, np.nan]], ml_dtypes.bfloat16)
    seen = statistics("classes", table)
    np.testing.assert_array_equal(seen["class"], [1, np.nan])
    np.testing.assert_array_equal(seen["max_probability"], [0.75, np.nan])


def test_text_is_its_bytes_and_its_script_and_words_are_hashed():
    texts = np.array(["für".encode(), b"", "да".encode(), "str"], object)
    seen = statistics("text", texts)
    assert seen["length"].tolist() == [4, 0, 4, 3]
    assert seen["non_ascii"].tolist() == [0.5, 0, 1, 0]
    words = statistics("categories", np.array([b"de", b"en", b"de"], object))["word"]
    assert words[0] == words[2] != words[1]
