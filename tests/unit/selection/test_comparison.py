"""Whatever number is another one is found and named, wherever it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve.errors import InferenceFailed
from serve.selection.cases import NOT_FINITE, Case, Sample, cases_of, make_samples
from serve.selection.comparison import first_difference
from tests.unit.selection.fakes import NAME, SIGNATURE, double, engine_of

_FLOATS = arrays(np.float32, (4, 3), elements=st.floats(-1, 1, width=32))
_PLACES = st.tuples(st.integers(0, 3), st.integers(0, 2))


def _case(right, origin="normal values", rows=None, **changes):
    sample = Sample(NAME, origin, {"x": np.zeros((4, 3), np.float32)}, {"y": right}, {})
    return Case(replace(sample, **changes), rows)


@given(right=_FLOATS, place=_PLACES, by=st.sampled_from([0.5, -3.0, np.nan, np.inf]))
def test_any_one_number_that_is_another_is_found_and_named(right, place, by):
    got = right.copy()
    got[place] += by
    found = first_difference(lambda _: {"y": got}, [_case(right)])
    assert found.startswith(f"output 'y'[{place[0]}, {place[1]}] is ")
    assert found.endswith("(normal values, all rows)")


@given(right=arrays(np.int32, (4, 3), elements=st.integers(-9, 9)), place=_PLACES, by=st.just(1))
def test_integers_have_no_tolerance(right, place, by):
    got = right.copy()
    got[place] += by
    found = first_difference(lambda _: {"y": got}, [_case(right)])
    assert f"'y'[{place[0]}, {place[1]}] is {got[place]} instead of {right[place]}" in found


@given(right=_FLOATS)
def test_what_kernels_round_differently_is_the_same(right):
    got = (right * np.float32(1 + 1e-6)).astype(np.float32)
    assert first_difference(lambda _: {"y": got}, [_case(right)]) == ""


@settings(max_examples=25)
@given(wrong=st.integers(0, 3), size=st.sampled_from([1, 2, 4, 8]))
def test_a_wrong_row_at_one_batch_size_alone_is_found(wrong, size):
    samples = make_samples(engine_of())

    def lies(inputs):
        outputs = double(inputs)
        if len(inputs["x"]) == size:
            outputs["y"][wrong % size] += 1
        return outputs

    cases = cases_of(samples, SIGNATURE, (1, 2, 4, 8))
    assert first_difference(double, cases) == ""
    found = first_difference(lies, cases)
    assert f"output 'y'[{wrong % size}, " in found
    assert f"{size} rows)" in found


def test_rows_in_another_order_are_found():
    def by_place(inputs):
        outputs = double(inputs)
        if inputs["x"][0, 0] != first:
            outputs["y"][0] += 1  # as a kernel would that keeps what it computed before
        return outputs

    samples = make_samples(engine_of())
    first = samples[0].inputs["x"][0, 0]
    assert "output 'y'[0" in first_difference(by_place, cases_of(samples, SIGNATURE, (1,)))


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ({"z": np.zeros((4, 3), np.float32)}, "its outputs are z instead of y"),
        ({"y": np.zeros((4, 1), np.float32)}, "output 'y' is float32 [4, 1] instead of float32"),
        ({"y": np.zeros((4, 3))}, "output 'y' is float64 [4, 3] instead of float32 [4, 3]"),
    ],
)
def test_other_names_shapes_and_types_are_found(got, said):
    right = np.zeros((4, 3), np.float32)
    assert said in first_difference(lambda _: got, [_case(right)])


def test_what_is_nan_for_nan_may_be_so_and_no_other_row():
    x = np.ones((4, 3), np.float32)
    x[1, 1] = np.nan
    right = np.ones((4, 3), np.float32)  # as a relu makes 0 of NaN in one library alone
    case = _case(right, NOT_FINITE, inputs={"x": x})
    nan, finite, beside = right.copy(), right.copy(), right.copy()
    nan[1] = np.nan
    finite[1] = 7.0
    beside[2] = np.nan
    assert first_difference(lambda _: {"y": nan}, [case]) == ""
    assert "'y'[1, 0] is 7 instead of 1" in first_difference(lambda _: {"y": finite}, [case])
    assert "'y'[2, 0] is nan instead of 1" in first_difference(lambda _: {"y": beside}, [case])
    case = _case(np.full((4, 3), np.nan, np.float32), NOT_FINITE, inputs={"x": x})
    assert "instead of nan" in first_difference(lambda _: {"y": nan}, [case])


def test_what_the_model_refuses_must_be_refused():
    def refuses(_):
        raise InferenceFailed("out of range")

    right = np.zeros((4, 3), np.float32)
    case = _case(right, "negative integers", refused=True)
    said = "it computes what the model refuses (negative integers, all rows)"
    assert first_difference(lambda _: {"y": right}, [case]) == said
    assert first_difference(refuses, [case]) == ""
    assert "it does not compute: out of range" in first_difference(refuses, [_case(right)])
