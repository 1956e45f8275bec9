import io

import numpy as np
import pytest
from PIL import Image

from serve.datatypes import DATATYPES
from serve.engines.sample_rows import KINDS, LENGTHS, PLAIN, inputs_of, kinds_of
from serve.types import Signature, TensorSpec


def _signature(*specs):
    return Signature("s", specs, (), True)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_inputs_of_every_type_fit_their_specs_and_rows_differ(datatype):
    signature = _signature(TensorSpec("x", datatype, (-1, 6)), TensorSpec("y", datatype, (-1, 3)))
    for kind in kinds_of(signature):
        (inputs,) = inputs_of(signature, kind, 4)
        assert [array.shape for array in inputs.values()] == [(4, 6), (4, 3)]
        assert all(array.dtype == DATATYPES[datatype].numpy for array in inputs.values())
        assert any(array[0].tolist() != array[3].tolist() for array in inputs.values())


def test_they_are_the_same_at_every_load():
    signature = _signature(TensorSpec("x", "FP32", (-1, -1)), TensorSpec("t", "BYTES", (-1,)))
    for kind in (*kinds_of(signature), *PLAIN):
        for one, two in zip(
            inputs_of(signature, kind, 3), inputs_of(signature, kind, 3), strict=True
        ):
            assert all(np.array_equal(one[name], two[name]) for name in one)


def test_open_dimensions_have_several_lengths_and_are_alike_in_all_inputs():
    signature = _signature(
        TensorSpec("x", "INT32", (-1, -1)), TensorSpec("m", "INT32", (-1, -1, 2))
    )
    shapes = [(i["x"].shape, i["m"].shape) for i in inputs_of(signature, KINDS[0], 2)]
    assert shapes == [((2, n), (2, n, 2)) for n in LENGTHS]


@pytest.mark.parametrize(
    ("shape", "made"), [((5, 2), (5, 2)), ((), ()), (None, (3,)), ((-1,), (3,))]
)
def test_sizes_that_are_known_are_kept(shape, made):
    (inputs,) = inputs_of(_signature(TensorSpec("x", "FP32", shape)), KINDS[0], 3)
    assert np.shape(inputs["x"]) == made


def test_floats_are_of_different_size_and_sign_from_row_to_row():
    signature = _signature(TensorSpec("x", "FP32", (-1, 100)))
    sizes = [
        np.abs(inputs["x"]).max(axis=1).tolist()
        for kind in kinds_of(signature)
        for inputs in inputs_of(signature, kind, 4)
    ]
    assert any(max(each) > 1e5 * min(each) for each in sizes)
    sums = [next(inputs_of(signature, kind, 4))["x"] for kind in kinds_of(signature)]
    one_column = [(x[:, :1] > 0).mean() for x in sums]
    assert any(0 < share < 1 for share in one_column)


@pytest.mark.parametrize(("datatype", "most"), [("UINT8", 250), ("INT8", 127), ("INT64", 2000)])
def test_integers_are_of_different_size_from_row_to_row(datatype, most):
    signature = _signature(TensorSpec("x", datatype, (-1, 50)), TensorSpec("n", datatype, ()))
    rows = [
        next(inputs_of(signature, kind, 4))["x"].astype(int).max(axis=1)
        for kind in kinds_of(signature)
    ]
    assert any(row.min() == 1 and row.max() > most * 0.9 for row in rows)


@pytest.mark.parametrize("separator", [b" ", b","])
@pytest.mark.parametrize("are_numbers", [False, True])
def test_some_texts_have_more_parts_than_others(separator, are_numbers):
    signature = _signature(TensorSpec("text", "BYTES", (-1,)))
    found = set()
    for kind in kinds_of(signature):
        rows = next(inputs_of(signature, kind, 4))["text"].tolist()
        parts = [text.split(separator) for text in rows]
        if all(part.isdigit() if are_numbers else part.isalpha() for row in parts for part in row):
            found.add(len({len(row) for row in parts}))
    assert max(found) > 1


def test_texts_may_be_pictures():
    signature = _signature(TensorSpec("image", "BYTES", (-1,)))
    formats = set()
    for kind in kinds_of(signature):
        text = next(inputs_of(signature, kind, 2))["image"][0]
        if b"JFIF" in text or b"PNG" in text:
            formats.add(Image.open(io.BytesIO(text)).format)
    assert formats == {"JPEG", "PNG"}
