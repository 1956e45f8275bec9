import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.batching.deadline import until
from serve.errors import DeadlineExceeded, InferenceFailed, RepositoryError
from serve.pipelines.member import ColocatedMember
from serve.types import Signature
from tests.unit.pipelines.fakes import IN, NUMBER, RowEngine

_SIZES = st.sets(st.integers(1, 12), min_size=1).map(sorted)


def _x(count):
    return {"x": np.arange(count, dtype=np.float32)}


@given(st.integers(0, 40), _SIZES)
def test_every_row_is_computed_once_at_sizes_that_are_warm(rows, sizes):
    engine = RowEngine()
    outputs = ColocatedMember("m", engine, sizes).compute(_x(rows))
    assert outputs["y"].tolist() == [2 * value for value in range(rows)]
    computed = [len(seen) for seen in engine.seen]
    if rows:
        assert set(computed) <= set(sizes)
        assert len(computed) == -(-rows // sizes[-1])
    else:
        assert computed == [0]


def test_more_rows_than_the_largest_size_come_in_pieces_and_only_the_last_is_padded():
    engine = RowEngine()
    ColocatedMember("m", engine, [1, 2, 4]).compute(_x(11))
    assert [seen.tolist() for seen in engine.seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 8]]


def test_a_member_computes_no_further_pieces_once_nobody_waits():
    engine = RowEngine()
    late = until(time.perf_counter())
    with late, pytest.raises(DeadlineExceeded, match="no time is left to compute 'm'"):
        ColocatedMember("m", engine, [1, 2, 4]).compute(_x(11))
    assert engine.seen == []


def test_an_engine_without_rows_is_given_its_inputs_as_they_are():
    engine = RowEngine(batched=False)
    outputs = ColocatedMember("m", engine, [1, 2]).compute(_x(5))
    assert [len(seen) for seen in engine.seen] == [5]
    assert len(outputs["y"]) == 5


def test_a_member_computes_its_engines_default_signature():
    engine = RowEngine()
    engine.signatures = {"other": Signature("other", (), (), True), **engine.signatures}
    member = ColocatedMember("m", engine, [1])
    member.compute(_x(1))
    assert engine.signatures_used == ["serving_default"]
    assert member.signature == Signature("serving_default", (IN,), (NUMBER,), True)


@pytest.mark.parametrize("may_block_loop", [True, False])
def test_what_holds_of_the_engine_holds_of_the_member(may_block_loop):
    engine = RowEngine(may_block_loop=may_block_loop)
    member = ColocatedMember("m", engine, [1, 4])
    assert member.may_block_loop is may_block_loop
    member.warmup()
    assert engine.warm_sizes == [1, 4]
    engine.retraces = 3
    assert member.retraces == 3
    member.close()
    assert engine.is_closed


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_an_engine_that_answers_other_rows_than_it_was_given_is_not_cut_to_fit(rows):
    engine = RowEngine()
    engine.infer = lambda signature, inputs: {"y": np.zeros((7, 2), np.float32)}
    with pytest.raises(InferenceFailed, match=r"member 'm' was given \d rows .* 'y' is \[7, 2\]"):
        ColocatedMember("m", engine, [1, 2, 4]).compute(_x(rows))


def test_a_member_whose_rows_turn_out_to_see_each_other_is_refused():
    engine = RowEngine()
    member = ColocatedMember("m", engine, [1, 2])
    engine.signatures = RowEngine(batched=False).signatures
    with pytest.raises(RepositoryError, match=r"member 'm' .* rows are independent, and is none"):
        member.warmup()
    ColocatedMember("m", engine, [1, 2]).warmup()
