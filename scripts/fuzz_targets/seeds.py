"""Inputs to begin with: what the unit tests give to the decoders, in the layout of the targets.

The tests run with recorders in the place of the functions that they call, so that a new golden
body is a new seed.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from fuzz_targets.layout import Parts, join
from fuzz_targets.targets import ENCODINGS, SIGNATURES, SPECS
from serve.datatypes import DATATYPES

ROOT = Path(__file__).parents[2]
TESTS = ("protocols", "edge/test_routes.py", "edge/test_deadlines.py")
_LONGEST_BYTES = 4096
_LARGEST_RANK = 4

Recorded = dict[str, set[bytes]]


def _of_v1(body: bytes, **_: Any) -> bytes:
    return join(Parts(_any_of(SIGNATURES, body), None, body))


def _of_v2(body: bytes, json_length: int | None, **_: Any) -> bytes:
    return join(Parts(_any_of(SIGNATURES, body), json_length, body))


def _of_tensor(data: memoryview, datatype: Any, shape: tuple[int, ...], **_: Any) -> bytes:
    sizes = bytes(size % 256 for size in shape[:_LARGEST_RANK])
    choice = list(DATATYPES).index(datatype.name)
    return join(Parts(choice, None, bytes([len(sizes)]) + sizes + bytes(data)))


def _of_encoding(body: bytes, encoding: str, **_: Any) -> bytes:
    known = encoding if encoding in ENCODINGS else "br"
    return join(Parts(ENCODINGS.index(known), None, body))


def _of_picture(path: Path, **_: Any) -> bytes:
    body = path.read_bytes() if path.exists() else b""
    return join(Parts(_any_of(SPECS, body), None, body))


# By target: the function that tests call, and what makes an input of its arguments.
_CALLS: tuple[tuple[str, str, str, Callable[..., bytes]], ...] = (
    ("v1", "serve.protocols.rest_v1", "decode_predict", _of_v1),
    ("v2", "serve.protocols.rest_v2", "decode_request", _of_v2),
    ("v2-response", "serve.protocols.rest_v2", "decode_response", _of_v2),
    ("tensors", "serve.protocols.tensors", "from_bytes", _of_tensor),
    ("floats", "serve.protocols.float_arrays", "read_floats", lambda text: text),
    ("encoding", "serve.protocols.content_encoding", "decompress", _of_encoding),
    ("paths", "serve.edge.routes", "parse_path", lambda path: path[1:].encode(errors="replace")),
    ("headers", "serve.edge.deadlines", "timeout_s", lambda headers: b"".join(headers.values())),
    (
        "headers",
        "serve.protocols.content_encoding",
        "choose_encoding",
        lambda accept_encoding: accept_encoding.encode("latin-1", "replace"),
    ),
    ("pictures", "serve.protocols.pictures", "load_image", _of_picture),
    ("npz", "serve.protocols.npz", "read_arrays", lambda path: path.read_bytes()),
)


def _any_of(cases: tuple[Any, ...], body: bytes) -> int:
    """Return a case that is always the same for a body, and not for all bodies."""
    return hashlib.sha256(body).digest()[0] % len(cases)


def recorded() -> Recorded:
    """Return the inputs of each target that the unit tests have, by running them."""
    inputs: Recorded = {target: set() for target, *_ in _CALLS}
    with _recording(inputs):
        code = pytest.main(
            ["-q", "--no-header", "-p", "no:cacheprovider", "--hypothesis-seed=0",
             *(str(ROOT / "tests" / "unit" / test) for test in TESTS)]
        )  # fmt: skip
    if code != pytest.ExitCode.OK:
        raise RuntimeError("seeds are made of tests, which fail; see above")
    return inputs


@contextmanager
def _recording(inputs: Recorded) -> Iterator[None]:
    """Note what is given to the decoders by modules that are imported within the block."""
    with ExitStack() as patches:
        for target, module, name, to_input in _CALLS:
            function = getattr(import_module(module), name)
            patches.enter_context(
                patch(f"{module}.{name}", _noting(function, to_input, inputs[target]))
            )
        yield


def _noting(
    function: Callable[..., Any], to_input: Callable[..., bytes], noted: set[bytes]
) -> Callable[..., Any]:
    signature = inspect.signature(function)

    def call(*args: Any, **more: Any) -> Any:
        data = to_input(**signature.bind(*args, **more).arguments)
        if len(data) <= _LONGEST_BYTES:
            noted.add(data)
        return function(*args, **more)

    return call


def write_corpora(folder: Path) -> None:
    """Write a file for each input into `folder`/<target>/seeds."""
    for target, inputs in recorded().items():
        seeds = folder / target / "seeds"
        seeds.mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    write_corpora(Path(sys.argv[1]))
