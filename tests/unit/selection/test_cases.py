"""The rows that candidates prove themselves with: of all kinds, at all sizes, kept as they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import RepositoryError
from serve.selection.cases import (
    NOT_FINITE,
    Sample,
    cases_of,
    make_samples,
    read_samples,
    taken,
    write_samples,
)
from serve.selection.comparison import first_difference
from tests.unit.selection.fakes import NAME, SIGNATURE, double, engine_of, signature_of, table


def test_samples_are_of_every_kind_and_have_numbers_that_are_none():
    samples = make_samples(engine_of())
    origins = [sample.origin for sample in samples]
    assert origins[0] == "normal values"
    assert {"values of different size", "zeros", NOT_FINITE} <= set(origins)
    spoiled = samples[-1].inputs["x"]
    assert np.isnan(spoiled).sum() == np.isinf(spoiled).sum() / 2 == 1
    assert np.isfinite(spoiled[-1]).all()


def test_every_allowed_size_and_the_other_order_are_computed():
    cases = cases_of(make_samples(engine_of()), SIGNATURE, (1, 2, 8))
    rows = [case.rows for case in cases if case.sample.origin == "normal values"]
    assert rows == [(0, 1, 2, 3), (3, 2, 1, 0), (0,), (0, 1), (0, 1, 2, 3, 0, 1, 2, 3)]


def test_what_the_model_refuses_is_a_sample_too():
    integers = signature_of("INT32")
    samples = make_samples(engine_of(table, integers))
    refused = {sample.origin for sample in samples if sample.refused}
    assert refused >= {"values of 0 to 255", "larger integers", "negative integers"}
    assert not samples[0].refused
    cases = cases_of(samples, integers, (1, 4))
    assert first_difference(table, cases) == ""

    def wraps(inputs):
        return {"y": np.arange(10, dtype=np.int32)[inputs["x"] % 10] * np.int32(3)}

    assert "it computes what the model refuses" in first_difference(wraps, cases)


@pytest.mark.parametrize(
    "lies", [lambda x: np.trunc(x / 2), lambda x: np.where(x < 0, 0, x // 2), lambda x: abs(x) // 2]
)
def test_what_is_right_for_positive_integers_alone_is_found(lies):
    integers = signature_of("INT64")
    samples = make_samples(engine_of(lambda inputs: {"y": inputs["x"] // 2}, integers))
    found = first_difference(
        lambda inputs: {"y": lies(inputs["x"]).astype(np.int64)}, cases_of(samples, integers, (1,))
    )
    assert "integers" in found


def test_a_model_that_computes_other_numbers_each_time_has_no_samples():
    rng = np.random.default_rng(0)
    noise = engine_of(lambda inputs: {"y": rng.random(inputs["x"].shape, np.float32)})
    with pytest.raises(RepositoryError, match="computes other numbers each time"):
        make_samples(noise)


def test_a_model_of_which_nothing_is_known_that_it_computes_has_no_samples():
    def refuses(_):
        raise RepositoryError("no")

    with pytest.raises(RepositoryError, match="nothing is known that signature"):
        make_samples(engine_of(refuses))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_rows_are_taken_as_they_are_asked_for(rows):
    x = {"x": np.arange(4)}
    assert taken(x, rows)["x"].tolist() == rows
    assert taken(x, None) is x


def test_samples_are_read_as_they_were_written(tmp_path):
    samples = make_samples(engine_of(table, signature_of("INT32")))
    scalar = Sample(NAME, "its own sample", {"s": np.float32(1)}, {"y": np.array(True)}, {})
    write_samples([*samples, scalar], tmp_path)
    read = read_samples(tmp_path)
    assert len(read) == len(samples) + 1
    for one, other in zip([*samples, scalar], read, strict=True):
        assert (one.signature, one.origin, one.refused) == (
            other.signature,
            other.origin,
            other.refused,
        )
        for part in ("inputs", "outputs", "allowed"):
            np.testing.assert_equal(getattr(one, part), getattr(other, part))


@pytest.mark.parametrize("name", ["cases.json", "cases.npz"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
def test_broken_samples_are_an_error_that_is_foreseen(tmp_path, name, damage):
    write_samples(make_samples(engine_of(double)), tmp_path)
    data = (tmp_path / name).read_bytes()
    if damage == "gone":
        (tmp_path / name).unlink()
    else:
        texts = {"empty": b"", "cut": data[: len(data) // 2], "other": b'[{"signature": 1}]'}
        (tmp_path / name).write_bytes(texts[damage])
    with pytest.raises(RepositoryError, match=r"the rows in '.*' cannot be read"):
        read_samples(tmp_path)
