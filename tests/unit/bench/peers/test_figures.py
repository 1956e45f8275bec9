import pytest
from bench.peers.figures import Engine, Row, Turn, load, median_engine, median_turn, save
from hypothesis import given
from hypothesis import strategies as st


def _turn(start_s, rate, cpu_us, failed=None):
    row = Row(rate, 1.0, 2.0, cpu_us)
    rows = {"JSON, 1": row} if failed is None else {}
    return Turn(start_s, 10.0, 9.0, 11.0, rows, failed or {})


def test_figures_that_were_saved_are_the_same_again(figures, tmp_path):
    path = tmp_path / "new" / "peers.json"
    save(figures, path)
    assert load(path) == figures


def test_of_several_turns_the_medians_are_told():
    turns = [_turn(1.0, 10.0, {"a": 1.0}), _turn(9.0, 30.0, {"a": 3.0}), _turn(2.0, 20.0, {"a": 9})]
    turn = median_turn(turns)
    assert turn.start_s == 2.0
    assert turn.rows["JSON, 1"].requests_per_s == 20.0
    assert turn.rows["JSON, 1"].cpu_us == {"a": 3.0}


def test_a_process_that_did_not_run_in_a_turn_took_nothing_there():
    row = median_turn([_turn(1.0, 1.0, {"a": 1.0}), _turn(1.0, 1.0, {"a": 1.0, "b": 4.0})]).rows
    assert row["JSON, 1"].cpu_us == {"a": 1.0, "b": 2.0}


def test_a_row_that_failed_once_is_none_and_its_reason_is_kept():
    turn = median_turn([_turn(1.0, 1.0, {}), _turn(1.0, 1.0, {}, {"JSON, 1": "refused"})])
    assert turn.rows == {}
    assert turn.failed == {"JSON, 1": "refused"}


def test_the_engine_of_several_measurements_is_their_median():
    engines = [Engine({1: ms}, {1: 10 * ms}, 100 * ms) for ms in (1.0, 5.0, 2.0)]
    assert median_engine(engines) == Engine({1: 2.0}, {1: 20.0}, 200.0)


@given(
    call_us=st.floats(1, 1000),
    row_us=st.floats(1, 1000),
    rows=st.floats(1, 64),
)
def test_between_measured_sizes_a_call_costs_a_part_of_its_own_and_one_for_each_row(
    call_us, row_us, rows
):
    engine = Engine({}, {size: call_us / size + row_us for size in (1, 4, 16, 64)}, 0.0)
    assert engine.cpu_us(rows) == pytest.approx(call_us / rows + row_us)
