import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serve.config.pipelines import PIPELINE
from serve.errors import ConfigError
from serve.types import TensorSpec
from tests.unit.pipelines.fakes import IN, Fake, always, assemble, infer


def _splitter(weights, key=None, *members):
    tree = {
        "kind": "splitter",
        "members": [{"model": "a"}, {"model": "b"}],
        "weights": weights,
        "key": key,
    }
    return assemble(tree, *(members or (always("a", 0), always("b", 1))))


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


def test_a_key_that_the_models_do_not_take_is_brought_as_text_and_kept_from_them():
    a, b = always("a", 0), always("b", 1)
    engine = _splitter([0.5, 0.5], "user", a, b)
    assert engine.signatures["serving_default"].inputs == (IN, TensorSpec("user", "BYTES", (-1,)))
    infer(engine, [1], user=np.array([b"ada"], object))
    assert [set(seen) for seen in a.seen + b.seen] == [{"x"}]


def test_an_integer_input_of_the_models_may_be_the_key():
    number = TensorSpec("id", "INT64", (-1,))
    members = [Fake(label, lambda x: np.zeros((len(x), 3)), (number,)) for label in "ab"]
    engine = _splitter([0.5, 0.5], "id", *members)
    assert engine.signatures["serving_default"].inputs == (number,)
    ids = np.array([1, 2, 3, 4, 5, 6, 7, 8], np.int64)
    ways = engine.infer("serving_default", {"id": ids})["member"]
    assert set(ways) == {b"a", b"b"}
    assert (
        engine.infer("serving_default", {"id": ids[::-1]})["member"].tolist() == ways[::-1].tolist()
    )


@pytest.mark.parametrize(
    "spec", [TensorSpec("x", "FP32", (-1,)), TensorSpec("x", "INT64", (-1, 2))]
)
def test_a_key_that_is_not_one_value_a_row_is_refused(spec):
    members = [Fake(label, None, (spec,)) for label in "ab"]
    with pytest.raises(ConfigError, match=r"p\]\.key: 'x' must be one value a row"):
        _splitter([0.5, 0.5], "x", *members)


def test_a_key_goes_the_same_way_in_every_process():
    ways = infer(
        _splitter([0.5, 0.5], "user"), range(4), user=np.array([b"a", b"b", b"c", b"d"], object)
    )
    # crc32 over 2**32: 0.91, 0.44, 0.03, 0.60
    assert ways["member"].tolist() == [b"b", b"a", b"a", b"b"]


def test_members_that_get_no_row_are_not_asked():
    a, b = always("a", 0), always("b", 1)
    engine = _splitter([1, 0], None, a, b)
    infer(engine, [1, 2, 3])
    assert (a.rows, b.seen) == ([1, 2, 3], [])
    assert engine.layers.take_rows() == {("a", "answered"): 3}
