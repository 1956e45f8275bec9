import numpy as np
import pytest
from PIL import Image

from serve.errors import InvalidRequest
from serve.protocols.pictures import load_image, save_image
from serve.types import TensorSpec

_GREY = TensorSpec("image", "FP32", (-1, 28, 28, 1))


def test_a_saved_picture_comes_back(tmp_path):
    pixels = (np.arange(784).reshape(28, 28, 1) % 256 / 255).astype(np.float32)
    save_image(pixels, tmp_path / "a.png")
    row = load_image(tmp_path / "a.png", _GREY)
    assert row.shape == (1, 28, 28, 1)
    np.testing.assert_allclose(row[0], pixels, atol=1e-6)


@pytest.mark.parametrize(
    ("datatype", "channels", "expected"),
    [
        ("UINT8", 3, [255, 0, 0]),
        ("FP32", 3, [1, 0, 0]),
        ("FP64", 1, [76 / 255]),
        ("FP16", 4, [1, 0, 0, 1]),
    ],
)
def test_channels_size_and_values_follow_the_models_input(tmp_path, datatype, channels, expected):
    Image.new("RGB", (10, 20), (255, 0, 0)).save(tmp_path / "red.png")
    row = load_image(tmp_path / "red.png", TensorSpec("x", datatype, (-1, 5, 4, channels)))
    assert row.shape == (1, 5, 4, channels)
    np.testing.assert_allclose(row[0, 0, 0].astype(float), expected, atol=1e-3)


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "FP32", (-1, 784)),
        TensorSpec("x", "FP32", (-1, -1, -1, 1)),
        TensorSpec("x", "FP32", (-1, 28, 28, 2)),
        TensorSpec("x", "BYTES", (-1, 28, 28, 1)),
        TensorSpec("x", "FP32", None),
    ],
)
def test_an_input_that_is_no_image_is_refused(tmp_path, spec):
    save_image(np.zeros((28, 28, 1)), tmp_path / "a.png")
    with pytest.raises(InvalidRequest, match="send JSON"):
        load_image(tmp_path / "a.png", spec)


def test_a_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InvalidRequest, match=r"a\.png"):
        load_image(tmp_path / "a.png", _GREY)
    with pytest.raises(InvalidRequest, match="no such file"):
        load_image(tmp_path / "b.png", _GREY)
