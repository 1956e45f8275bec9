import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.config.pipelines import PIPELINE
from tests.unit.pipelines.fakes import always, assemble, infer


def _splitter(weights, key=None):
    tree = {
        "kind": "splitter",
        "members": [{"model": "a"}, {"model": "b"}],
        "weights": weights,
        "key": key,
    }
    return assemble(tree, always("a", 0), always("b", 1))


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=50))
def test_a_splitter_sends_the_same_key_the_same_way_and_keeps_rows_in_place(keys):
    engine = _splitter([0.5, 0.5], "user")
    users = np.array(keys, object)
    first = infer(engine, range(len(keys)), user=users)
    again = infer(engine, range(len(keys)), user=users[::-1].copy())
    assert first["member"].tolist() == again["member"].tolist()[::-1]
    assert first["p"].argmax(axis=1).tolist() == [int(m == b"b") for m in first["member"]]


def test_a_splitter_keeps_to_its_weights():
    outputs = infer(_splitter([0.9, 0.1]), range(4000))
    share = (outputs["member"] == b"b").mean()
    assert 0.07 < share < 0.13
    assert not (infer(_splitter([1, 0]), range(100))["member"] == b"b").any()


@pytest.mark.parametrize(
    ("weights", "said"),
    [([0.5, 0.6], "sum to 1.1"), ([1], "1 for 2 members"), ([2, -1], "greater")],
)
def test_weights_that_do_not_work_are_refused(weights, said):
    members = [{"model": "a"}, {"model": "b"}]
    tree = {"name": "p", "kind": "splitter", "members": members, "weights": weights}
    with pytest.raises(ValidationError) as caught:
        PIPELINE.validate_python(tree)
    assert said in str(caught.value)
