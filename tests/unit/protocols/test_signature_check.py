import numpy as np
import pytest

from serve.errors import InvalidRequest
from serve.protocols.signature_check import check
from serve.types import Signature, TensorSpec

_SIGNATURE = Signature(
    "s",
    (TensorSpec("image", "FP32", (-1, 2, 2)), TensorSpec("id", "INT64", (-1,))),
    (),
    True,
)


def _inputs(rows=2, ids=2, shape=(2, 2), dtype=np.float32):
    return {"id": np.zeros(ids, np.int64), "image": np.zeros((rows, *shape), dtype)}


def test_inputs_that_fit_come_in_the_signatures_order():
    assert list(check(_inputs(), _SIGNATURE, "m")) == ["image", "id"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "model 'm' takes the inputs 'image' FP32 [-1, 2, 2], 'id' INT64 [-1]; got none"),
        ({**_inputs(), "more": np.zeros(1)}, "got 'id', 'image', 'more'"),
        (_inputs(dtype=np.float64), "input 'image' is FP64 [2, 2, 2], model 'm' expects"),
        (_inputs(shape=(2, 3)), "input 'image' is FP32 [2, 2, 3]"),
        (_inputs(shape=(2,)), "input 'image' is FP32 [2, 2]"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(inputs, said):
    with pytest.raises(InvalidRequest) as caught:
        check(inputs, _SIGNATURE, "m")
    assert said in str(caught.value)


def test_inputs_need_not_have_as_many_rows():
    """One user and many items: whether the model takes them is the model's to say."""
    assert {name: len(a) for name, a in check(_inputs(ids=3), _SIGNATURE, "m").items()} == {
        "image": 2,
        "id": 3,
    }


def test_an_unknown_rank_takes_any_shape():
    signature = Signature("s", (TensorSpec("x", "FP32", None),), (), False)
    for shape in ((), (1,), (2, 3, 4)):
        check({"x": np.zeros(shape, np.float32)}, signature, "m")
