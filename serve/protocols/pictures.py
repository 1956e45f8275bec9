"""Pictures to tensors and back, for `strata predict --image` and the sample digits."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np

from serve.datatypes import DATATYPES
from serve.errors import InvalidRequest
from serve.types import Array, TensorSpec

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_MOST_PIXELS = 80_000_000  # below where Pillow itself begins to warn


def load_image(path: Path, spec: TensorSpec) -> Array:
    """Return a picture in a file as one row [1, height, width, channels] of an image input.

    Values are 0..1 for floating point inputs and 0..255 for integers. Raises InvalidRequest.
    """
    from PIL import Image

    height, width, channels = _image_shape(spec)
    try:
        # At once: Pillow takes memory for as many bytes as a broken file claims to have.
        content = BytesIO(path.read_bytes())
    except FileNotFoundError as err:
        raise InvalidRequest(f"{path}: no such file") from err
    except OSError as err:
        raise InvalidRequest(f"{path}: cannot be read: {err}") from err
    try:
        with Image.open(content) as file:
            _check_size(file.size)
            picture = file.convert(_MODES[channels])
    # Its readers of formats raise whatever a broken file makes them: SyntaxError, struct.error...
    except Exception as err:
        why = str(err) or type(err).__name__
        raise InvalidRequest(f"{path}: not a picture that can be read: {why}") from err
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, np.uint8).reshape(1, height, width, channels)
    dtype = DATATYPES[spec.datatype].numpy
    return (pixels / 255).astype(dtype) if dtype.kind == "f" else pixels.astype(dtype)


def _check_size(size: tuple[int, int]) -> None:
    """Raise ValueError for more pixels than memory should be taken for; a small file may have."""
    if math.prod(size) > _MOST_PIXELS:
        raise ValueError(f"it has {size[0]} x {size[1]} pixels, {_MOST_PIXELS} are the most")


def _image_shape(spec: TensorSpec) -> tuple[int, int, int]:
    shape = spec.shape or ()
    if len(shape) != 4 or min(shape[1:]) < 1 or shape[3] not in _MODES or spec.datatype == "BYTES":
        raise InvalidRequest(
            f"input '{spec.name}' {spec.datatype} {list(shape)} is not an image input "
            "[-1, height, width, 1, 3 or 4]; send JSON"
        )
    return shape[1], shape[2], shape[3]


def save_image(pixels: Array, path: Path) -> None:
    """Write a float image [height, width, 1] with values 0..1 as a greyscale PNG."""
    from PIL import Image

    levels = np.clip(np.rint(pixels[..., 0] * 255), 0, 255).astype(np.uint8)
    Image.fromarray(levels).save(path)
