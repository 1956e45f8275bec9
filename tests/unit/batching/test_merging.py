import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.batching.merging import chunks, merge, padded_size, rows_of, shape_key, split
from serve.errors import InferenceFailed


def _request(start: int, rows: int) -> dict[str, np.ndarray]:
    numbers = np.arange(start, start + rows)
    return {"x": numbers.astype(np.float32), "s": numbers.astype(str).astype(object)}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 7))
def test_split_undoes_merge_for_every_composition_and_padding(row_counts, padding):
    starts = np.cumsum([0, *row_counts[:-1]])
    requests = [_request(int(start), rows) for start, rows in zip(starts, row_counts, strict=True)]
    size = sum(row_counts) + padding
    answers = split(merge(requests, size), row_counts, size)
    for request, answer in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(request["x"], answer["x"])
        np.testing.assert_array_equal(request["s"], answer["s"])


@given(st.integers(1, 100), st.integers(1, 17))
def test_chunks_keep_every_row_in_order(rows, largest):
    pieces = chunks(_request(0, rows), largest)
    assert all(rows_of(piece) <= largest for piece in pieces)
    np.testing.assert_array_equal(np.concatenate([p["x"] for p in pieces]), np.arange(rows))


def test_padding_repeats_the_first_row():
    merged = merge([_request(5, 2)], 4)
    assert merged["x"].tolist() == [5, 6, 5, 5]


def test_a_request_that_fills_the_batch_is_not_copied():
    request = _request(0, 4)
    assert merge([request], 4)["x"] is request["x"]


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 4), (8, 8), (9, 9)])
def test_padded_size_is_the_next_allowed_one(rows, size):
    assert padded_size(rows, (1, 2, 4, 8)) == size


def test_only_equal_dtypes_and_inner_shapes_share_a_key():
    one = shape_key("a", {"x": np.zeros((1, 3), np.float32)})
    assert one == shape_key("a", {"x": np.zeros((5, 3), np.float32)})
    assert one != shape_key("b", {"x": np.zeros((1, 3), np.float32)})
    assert one != shape_key("a", {"x": np.zeros((1, 3), np.float64)})
    assert one != shape_key("a", {"x": np.zeros((1, 4), np.float32)})
    assert one != shape_key("a", {"y": np.zeros((1, 3), np.float32)})


def test_an_output_without_the_batch_dimension_is_an_error_that_names_it():
    with pytest.raises(InferenceFailed, match="output 'mean' has shape"):
        split({"mean": np.zeros(3)}, [1, 1], 2)
