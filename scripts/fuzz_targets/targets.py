"""What is fuzzed: for each target a function of bytes that raises where something is wrong.

A refusal is right: a ServeError with a status 4xx, or 501 for what the protocols allow and Strata
lacks, with a message of a length that a person can read. Anything else that is raised is a fault,
and so is a decoded value that does not come back when it is written and read again.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from fuzz_targets.layout import split
from serve.datatypes import DATATYPES, is_float
from serve.edge import deadlines
from serve.edge.http import HttpRequest, error_response, v2_json_length
from serve.edge.routes import parse_path
from serve.errors import ServeError, Unsupported
from serve.protocols import (
    content_encoding,
    float_arrays,
    npz,
    pictures,
    rest_v1,
    rest_v2,
    signature_check,
    tensors,
)
from serve.types import Array, InferResponse, Signature, Tensors, TensorSpec

_DECOMPRESSED_BYTES = 1_000_000
_DIMENSIONS = 4
_MESSAGE_BYTES = 40_000  # of some thousand characters, each of them escaped
_PADDING = b" " * float_arrays._LEAST_BYTES  # makes any body one that may be read in one go
ENCODINGS = ("gzip", "deflate", "x-gzip", "identity", "", "br")


def _signature(*specs: tuple[str, str, tuple[int, ...] | None], batched: bool = True) -> Signature:
    inputs = tuple(TensorSpec(*spec) for spec in specs)
    return Signature("serving_default", inputs, inputs, batched)


# What served models have: one input and several, known and unknown shapes, each kind of datatype.
SIGNATURES = (
    _signature(("x", "FP32", (-1,))),
    _signature(("x", "FP32", (-1, 2)), ("s", "BYTES", (-1,))),
    _signature(("image", "FP64", (-1, 2, 2, 1))),
    _signature(("x", "FP32", None), batched=False),
    _signature(("s_bytes", "BYTES", (-1, -1))),
    _signature(("x", "INT8", (-1, 0, 3))),
    _signature(("x", "UINT64", ()), batched=False),
    _signature(("x", "BOOL", (-1, -1))),
    _signature(("x", "FP16", (-1,)), ("y", "BF16", (-1,))),
    _signature(("x", "INT64", (2, -1)), batched=False),
)
SPECS = (
    TensorSpec("image", "FP32", (-1, 8, 8, 1)),
    TensorSpec("image", "UINT8", (-1, 8, 6, 3)),
    TensorSpec("image", "FP16", (-1, 6, 8, 4)),
)


def decode_v1(data: bytes) -> None:
    """Read a :predict body, quickly and slowly, and write what it holds as a response."""
    parts = split(data)
    signature = SIGNATURES[parts.choice % len(SIGNATURES)]

    def decode(body: bytes) -> tuple[Tensors, bool]:
        by_name = {signature.name: signature}
        request, row_form = rest_v1.decode_predict(body, by_name, signature.name)
        return signature_check.check(request.inputs, signature, "m"), row_form

    _require_same_slowly(decode, parts.body)
    with refusals():
        inputs, row_form = decode(parts.body)
        body = rest_v1.encode_predict(InferResponse("m", 1, inputs), signature, row_form)
        json.loads(body)


def decode_v2(data: bytes) -> None:
    """Read an infer body, quickly and slowly; what it holds comes back through a response."""
    parts = split(data)
    signature = SIGNATURES[parts.choice % len(SIGNATURES)]

    def decode(body: bytes) -> tuple[Tensors, object]:
        request, form = rest_v2.decode_request(body, parts.json_length, signature)
        return request.inputs, (form, request.id, request.outputs, request.timeout_s)

    if parts.json_length is None:
        _require_same_slowly(decode, parts.body)
    with refusals():
        request, form = rest_v2.decode_request(parts.body, parts.json_length, signature)
        response = InferResponse("m", 1, request.inputs, request.id)
        again = rest_v2.decode_response(*rest_v2.encode_response(response, form))
        _require_equal(again.outputs, request.inputs)
        assert again.id == request.id
        signature_check.check(request.inputs, signature, "m")


def decode_v2_response(data: bytes) -> None:
    """Read an infer response, as `strata predict` does."""
    parts = split(data)
    with refusals():
        rest_v2.decode_response(parts.body, parts.json_length)


def read_tensor(data: bytes) -> None:
    """Read raw data, behind a rank and sizes of a byte each, as a tensor, and write it again."""
    parts = split(data)
    datatype = list(DATATYPES.values())[parts.choice % len(DATATYPES)]
    rank = parts.body[0] % (_DIMENSIONS + 1) if parts.body else 0
    shape, raw = tuple(parts.body[1 : 1 + rank]), parts.body[1 + rank :]
    with refusals():
        array = tensors.from_bytes(memoryview(raw), datatype, shape, "x")
        assert array.shape == shape
        assert tensors.to_bytes(array) == raw or datatype.name == "BOOL"


def read_floats(data: bytes) -> None:
    """Read an array of numbers in one go, and by the reader of everything."""
    floats = float_arrays.read_floats(data)
    if floats is not None:
        slowly = tensors.as_numbers(json.loads(data), DATATYPES["FP64"], "x")
        assert floats.shape == slowly.shape
        assert np.array_equal(floats, slowly)
    for key in ("data", "inputs"):
        cut = float_arrays.cut_array(data + _PADDING, key)
        if cut is not None:
            assert len(cut[0]) + len(cut[1]) == len(data + _PADDING) + len("[]")


def decompress(data: bytes) -> None:
    """Decompress a body, which must not become larger than it may."""
    parts = split(data)
    with refusals():
        encoding = ENCODINGS[parts.choice % len(ENCODINGS)]
        plain = content_encoding.decompress(parts.body, encoding, _DECOMPRESSED_BYTES)
        assert len(plain) <= max(_DECOMPRESSED_BYTES, len(parts.body))


def read_path(data: bytes) -> None:
    """Take a path apart; ASGI's is text in which nothing is half a surrogate pair."""
    path = f"/{data.decode(errors='replace')}"
    target = parse_path(path)
    assert target.protocol in {"v1", "v2"}
    assert target.version is None or target.label is None
    assert target.model is None or target.verb is None or path.lower().startswith("/v")
    assert (target.route(is_served=True) is None) == (target.verb is None)
    if target.protocol == "v1" and target.model is not None:
        assert replace(parse_path(target.inside_model()), path=target.path) == target
    for method in ("GET", "HEAD", "POST", "OPTIONS", "PUT"):
        with refusals():
            refusal = target.refusal(method)
            assert refusal is None or refusal.status in {204, 404, 405}


def read_headers(data: bytes) -> None:
    """Read a header's value as each of those that are read."""
    with refusals():
        seconds = deadlines.timeout_s({deadlines.HEADER: data})
        assert seconds >= 0
        assert deadlines.timeout_s({deadlines.HEADER: deadlines.header_value(seconds)}) >= 0
    with refusals():
        headers = {b"inference-header-content-length": data}
        assert (v2_json_length(HttpRequest("POST", "/", headers)) or 0) >= 0
    text = data.decode("latin-1")
    assert content_encoding.choose_encoding(text) in {None, "gzip", "deflate"}
    with refusals():
        content_encoding.decompress(b"", text, _DECOMPRESSED_BYTES)


def read_picture(data: bytes) -> None:
    """Read a file as a picture for an image input."""
    parts = split(data)
    spec = SPECS[parts.choice % len(SPECS)]
    with refusals(), _file(parts.body) as path:
        row = pictures.load_image(path, spec)
        assert row.shape == (1, *(spec.shape or ())[1:])


def read_npz(data: bytes) -> None:
    """Read a file of arrays; who reads one says in words what is wrong with it."""
    with _file(data) as path:
        try:
            arrays = npz.read_arrays(path)
        except ValueError as err:
            assert str(path) in str(err)  # noqa: PT017
            return
        assert all(not array.dtype.hasobject or array.dtype == object for array in arrays.values())


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "v1": decode_v1,
    "v2": decode_v2,
    "v2-response": decode_v2_response,
    "tensors": read_tensor,
    "floats": read_floats,
    "encoding": decompress,
    "paths": read_path,
    "headers": read_headers,
    "pictures": read_picture,
    "npz": read_npz,
}
# Whose inputs hold JSON that is mutated as such.
WITH_JSON = frozenset({"v1", "v2", "v2-response"})
# What is seldom found by changing a byte at a time.
WORDS: Mapping[str, tuple[str, ...]] = {
    "paths": (
        "v1/models/", "v2/models/", "/v1", "/versions/", "/labels/", "/metadata", "/ready",
        "/infer", ":predict", ":classify", ":REGRESS", "9223372036854775807", "9223372036854775808",
        "00", "v2/health/live", "v2/repository/index",
    ),
    "headers": ("gzip", "deflate", "identity", "*", ";q=", "nan", "inf", "1e999", "H", "m", "n"),
    "floats": ("NaN", "Infinity", "e400", "[[", "]]", "],[", "-0", "null", "true"),
}  # fmt: skip


@contextmanager
def refusals() -> Iterator[None]:
    """Let pass what a client may be told, and see that it can be."""
    try:
        yield
    except ServeError as err:
        if not (400 <= err.http_status < 500 or isinstance(err, Unsupported)):
            raise
        body = error_response(err).body
        assert isinstance(json.loads(body)["error"], str)
        if len(body) > _MESSAGE_BYTES:
            raise AssertionError(f"an error of {len(body)} bytes") from err


def _require_same_slowly(decode: Callable[[bytes], object], body: bytes) -> None:
    """Require that a body means the same to the quick reader of floats and to that of everything.

    Both get one that is long enough for the quick one.
    """
    quick = _outcome(decode, body + _PADDING)
    least = float_arrays._LEAST_BYTES
    float_arrays._LEAST_BYTES = 2**60
    try:
        slow = _outcome(decode, body + _PADDING)
    finally:
        float_arrays._LEAST_BYTES = least
    if isinstance(quick, str) or isinstance(slow, str):
        assert quick == slow
        return
    _require_equal(quick[0], slow[0])
    assert quick[1] == slow[1]


def _outcome(decode: Callable[[bytes], object], body: bytes) -> str | tuple[Tensors, object]:
    try:
        return decode(body)  # type: ignore[return-value]
    except ServeError as err:
        return f"{err.http_status} {err}"


def _require_equal(got: Tensors, wanted: Tensors) -> None:
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert _same(got[name], array), name


def _same(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return bool(one.tolist() == other.tolist())
    if is_float(one.dtype):
        return bool(np.array_equal(one.astype(float), other.astype(float), equal_nan=True))
    return bool(np.array_equal(one, other))


@contextmanager
def _file(content: bytes) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield Path(file.name)
