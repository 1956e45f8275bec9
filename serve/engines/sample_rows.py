"""Rows to warm a signature up with and to try it on, where a version has none of its own.

Called by trial. What a model accepts is not known: an index must be inside a table, a
text may have to be a picture, so several kinds of values and lengths are offered, and the caller
takes those that compute. They are the same at every load.
"""

import io
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from serve.datatypes import DATATYPES, is_float
from serve.types import Array, Signature, Tensors, TensorSpec

# Enough that a row has company and can change its place.
ROWS = 4

# For dimensions without a size: short first, then what pictures and kernels ask for at least.
LENGTHS = (8, 1, 32, 224)

_Values = Callable[[np.random.Generator, int], Array]


@dataclass(frozen=True, slots=True)
class Kind:
    """Values for floats, integers and texts that go together; `name` is for messages."""

    name: str
    floats: tuple[float, float] | None  # from, to; None is the normal distribution
    integers: tuple[int, int]  # from, to inclusive
    texts: _Values
    scales: tuple[float, ...] = ()  # what the floats of each row are multiplied by
    tops: tuple[int, ...] = ()  # the largest integer of each row, where they differ


def words(rng: np.random.Generator, count: int) -> Array:
    """Return so many words of different lengths, as BYTES."""
    # Of letters and in fours, so that they can be read as base64 as well.
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    return texts_of([rng.choice(letters, 4 * (1 + i % 3)).tobytes() for i in range(count)])


def _listed(separator: bytes, make: _Values) -> _Values:
    """Return what makes rows of one to three texts each, with a separator between them."""

    def made(rng: np.random.Generator, count: int) -> Array:
        return texts_of([separator.join(make(rng, 1 + i % 3).tolist()) for i in range(count)])

    return made


def _numerals(rng: np.random.Generator, count: int) -> Array:
    return texts_of([b"%d" % value for value in rng.integers(1, 100, count)])


def _pictures(file_format: str) -> _Values:
    def make(rng: np.random.Generator, count: int) -> Array:
        return texts_of([_picture(rng, file_format) for _ in range(count)])

    return make


def _picture(rng: np.random.Generator, file_format: str) -> bytes:
    from PIL import Image  # for models of texts alone

    file = io.BytesIO()
    pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def _recordings(rng: np.random.Generator, count: int) -> Array:
    return texts_of([_recording(rng) for _ in range(count)])


def _recording(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(16_000)
        recording.writeframes(rng.integers(-999, 999, 16_000, np.int16).tobytes())
    return file.getvalue()


def _empty(rng: np.random.Generator, count: int) -> Array:
    return texts_of([b""] * count)


def texts_of(values: Sequence[bytes]) -> Array:
    """Return texts as an array of objects, which is what BYTES are."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


KINDS = (
    Kind("normal values", None, (1, 9), words),
    Kind("values of 0 to 1", (0, 1), (0, 1), _numerals),
    Kind("values of 0 to 255", (0, 255), (0, 255), _pictures("JPEG")),
)
# A row that decides for all, by its size or sign, must be seen to.
_MAGNITUDES = Kind(
    "values of different size", None, (1, 9), words, scales=(1.0, -100.0, 0.01, -10_000.0)
)
# Not larger: some models make tensors of a size that they are told.
_INTEGERS = (
    Kind("integers of different size", None, (0, 1), words, tops=(1, 250, 5, 60)),
    Kind("larger integers", None, (0, 1), words, tops=(1, 2_000, 30, 500)),
)
# Rows that are cut into parts have as many as the longest one, in many a model.
_MORE_TEXTS = (
    Kind("phrases", (0, 1), (0, 1), _listed(b" ", words)),
    Kind("words between commas", (0, 1), (0, 1), _listed(b",", words)),
    Kind("lists of numbers", (0, 1), (0, 1), _listed(b" ", _numerals)),
    Kind("numbers between commas", (0, 1), (0, 1), _listed(b",", _numerals)),
    Kind("PNG pictures", (0, 1), (0, 1), _pictures("PNG")),
    Kind("WAV recordings", (0, 1), (0, 1), _recordings),
)
PLAIN = (
    Kind("ones", (1, 1), (1, 1), _numerals),
    Kind("zeros", (0, 0), (0, 0), _empty),
)


def kinds_of(signature: Signature) -> tuple[Kind, ...]:
    """Return the kinds of values that differ from row to row and are worth trying."""
    datatypes = {spec.datatype for spec in signature.inputs}
    has_integers = any(DATATYPES[name].numpy.kind in "iu" for name in datatypes)
    has_floats = any(is_float(DATATYPES[name].numpy) for name in datatypes)
    return (
        *KINDS,
        *((_MAGNITUDES,) if has_floats else ()),
        *(_INTEGERS if has_integers else ()),
        *(_MORE_TEXTS if "BYTES" in datatypes else ()),
    )


def inputs_of(signature: Signature, kind: Kind, rows: int) -> Iterator[Tensors]:
    """Yield inputs of so many rows, one for each length that its open dimensions may have."""
    for length in LENGTHS if _has_lengths(signature) else LENGTHS[:1]:
        rng = np.random.default_rng(0)
        yield {
            spec.name: _values(spec, kind, _shape(spec, rows, length), rng)
            for spec in signature.inputs
        }


def _has_lengths(signature: Signature) -> bool:
    return any(-1 in (spec.shape or ())[1:] for spec in signature.inputs)


def _shape(spec: TensorSpec, rows: int, length: int) -> tuple[int, ...]:
    if spec.shape is None:
        return (rows,)
    if not spec.shape:
        return ()
    first, *rest = spec.shape
    return (rows if first < 0 else first, *(length if size < 0 else size for size in rest))


def _values(
    spec: TensorSpec, kind: Kind, shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    dtype = DATATYPES[spec.datatype].numpy
    count = int(np.prod(shape))
    if dtype.hasobject:
        return kind.texts(rng, count).reshape(shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return _integers(kind, shape, int(np.iinfo(dtype.str).max), rng).astype(dtype)
    if kind.floats is None:
        floats = rng.standard_normal(shape)
        return _scaled(floats, kind.scales).astype(dtype) if kind.scales else floats.astype(dtype)
    return rng.uniform(*kind.floats, shape).astype(dtype)


def _integers(kind: Kind, shape: tuple[int, ...], most: int, rng: np.random.Generator) -> Array:
    low, high = kind.integers
    if not kind.tops or not shape:
        return rng.integers(low, min(high, most), shape, endpoint=True)
    tops = np.minimum(_by_row(kind.tops, shape), min(most, max(kind.tops)))
    return rng.integers(tops // 2, tops, shape, endpoint=True)


def _scaled(floats: Array, scales: Sequence[float]) -> Array:
    return np.asarray(floats * _by_row(scales, floats.shape)) if floats.ndim else floats


def _by_row(values: Sequence[float], shape: tuple[int, ...]) -> Array:
    """Return values, in turn for each row of a shape, to be broadcast to that."""
    return np.resize(values, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
