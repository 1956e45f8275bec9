from hypothesis import given

from tests.unit.pipelines.fakes import VALUES, assemble, infer, number


@given(VALUES)
def test_a_sequence_hands_each_members_output_to_the_next(values):
    double, add = number("double", lambda x: x * 2), number("add", lambda y: y + 1)
    engine = assemble(
        {"kind": "sequence", "steps": [{"model": "double"}, {"model": "add"}]}, double, add
    )
    assert infer(engine, values)["y"].tolist() == [2 * v + 1 for v in values]
