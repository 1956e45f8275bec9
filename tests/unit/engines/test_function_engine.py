"""Functions by signature: tried, warm at every size, and let go of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve.errors import InferenceFailed, RepositoryError
from serve.types import RowsVerdict
from tests.unit.selection.fakes import NAME, SIGNATURE, double, engine_of


class Counted:
    """`double`, with the rows of every call."""

    def __init__(self):
        self.rows = []

    def __call__(self, inputs):
        self.rows.append(len(inputs["x"]))
        return double(inputs)


def test_every_size_is_warm_once():
    counted = Counted()
    engine = engine_of(counted)
    engine.warmup((1, 4))
    assert {1, 4} <= set(counted.rows)
    counted.rows.clear()
    engine.proved_at((1, 4))
    engine.warmup((1, 4))
    assert counted.rows == []
    engine.warmup((1, 8))
    assert 8 in counted.rows


def test_batching_is_earned_by_rows_that_do_not_see_each_other():
    single = replace(SIGNATURE, batched=False)
    engine = engine_of(double, single)
    engine.earn_batching("auto", {}, {})
    assert engine.signatures[NAME].batched
    engine.earn_batching("auto", {NAME: RowsVerdict(False, "known")}, {})
    assert engine.signatures[NAME].batched_reason == "known"
    mixed = engine_of(lambda i: {"y": i["x"] - i["x"].mean(axis=0)}, single)
    mixed.earn_batching("auto", {}, {})
    assert not mixed.signatures[NAME].batched


def test_what_only_another_library_can_do_is_said():
    engine = engine_of()
    assert engine.state_ops(NAME) == ()
    assert engine.complexity() is None
    with pytest.raises(RepositoryError, match="writes no SavedModel of signature"):
        engine.export(NAME, Path("nowhere"))


def test_a_default_signature_that_does_not_compute_is_an_error():
    def fails(_):
        raise InferenceFailed("no kernel")

    with pytest.raises(RepositoryError, match="no kernel"):
        engine_of(fails).warmup((1,))


def test_a_closed_engine_holds_nothing():
    engine = engine_of()
    assert (engine.infer(NAME, {"x": np.ones((1, 3), np.float32)})["y"] == 3).all()
    assert engine.samples(NAME)[0][0] == "normal values"
    engine.close()
    with pytest.raises(KeyError):
        engine.infer(NAME, {})
