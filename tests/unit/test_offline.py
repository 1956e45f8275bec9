import numpy as np
import pytest

from serve.errors import InvalidRequest
from serve.offline import inputs_of
from serve.types import Signature, TensorSpec

_IMAGE = Signature("s", (TensorSpec("image", "FP32", (-1, 2)),), (), batched=True)
_TEXT = Signature("s", (TensorSpec("text", "BYTES", (-1,)),), (), batched=True)


def test_numbers_of_another_width_become_the_models():
    columns = {"image": np.ones((3, 2)), "id": np.arange(3)}
    inputs = inputs_of(columns, _IMAGE, "m")
    assert list(inputs) == ["image"]
    assert inputs["image"].dtype == np.float32


def test_lists_of_numbers_become_one_array():
    rows = np.empty(2, object)
    rows[:] = [[1.0, 2.0], np.array([3.0, 4.0])]
    assert inputs_of({"image": rows}, _IMAGE, "m")["image"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("text", [np.array(["häh", "a"]), np.array(["häh", b"a"], object)])
def test_text_becomes_bytes(text):
    assert inputs_of({"text": text}, _TEXT, "m")["text"].tolist() == ["häh".encode(), b"a"]


def test_text_for_a_model_of_numbers_is_refused():
    with pytest.raises(InvalidRequest, match="cannot become FP32"):
        inputs_of({"image": np.array(["a", "b"])}, _IMAGE, "m")


def test_a_column_that_is_missing_is_named():
    with pytest.raises(InvalidRequest, match="'image' FP32"):
        inputs_of({"pixels": np.ones((1, 2))}, _IMAGE, "m")
