import struct
import tracemalloc
import zlib

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


def _png(width, height, *more):
    """Return a PNG that claims so many pixels; `more` are chunks behind its head."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in ((b"IHDR", head), *more))


def _chunk(kind, content, length=None):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", length or len(content)) + kind + content + checksum


_ROW = zlib.compress(b"\0" * 29 * 28)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        _png(28, 28),
        _png(28, 28, (b"IDAT", b"no picture")),
        _png(20_000, 20_000, (b"IDAT", _ROW)),
        _png(9_000, 9_000, (b"IDAT", _ROW)),
        _png(0, 28, (b"IDAT", _ROW)),
        b"P5 28 28 99999999999999999999",
        b"P6\n28 28\n255\n" + b"1",
        b"GIF89a" + b"\xff" * 50,
        b"BM" + b"\xff" * 50,
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
    ],
)
def test_a_broken_picture_is_named_and_takes_little_memory(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=r"a\.png: not a picture that can be read: ."):
            load_image(tmp_path / "a.png", _GREY)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_picture_takes_no_memory_for_bytes_that_it_only_claims_to_have(tmp_path):
    (tmp_path / "a.png").write_bytes(_png(28, 28, (b"IDAT", _ROW, 2**31 - 1)))
    tracemalloc.start()
    try:
        assert load_image(tmp_path / "a.png", _GREY).shape == (1, 28, 28, 1)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_picture_that_may_not_be_read_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match=r"cannot be read: .*directory"):
        load_image(tmp_path, _GREY)
