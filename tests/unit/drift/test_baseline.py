"""The file in a version's folder: what it keeps, and what is refused."""

import json

import numpy as np
import pytest

from serve.drift.baseline import Baseline, describe, parse_baseline
from serve.errors import RepositoryError
from serve.types import Signature, TensorSpec

_SIGNATURES = {
    "s": Signature(
        "s",
        (TensorSpec("text", "BYTES", (-1,)),),
        (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("error", "FP32", (-1,))),
        True,
    ),
    "scalar": Signature("scalar", (), (), False),
}


def _baseline():
    texts = np.array([b"a secret", b"another"] * 300, object)
    return Baseline("s", 600, {"text": describe("text", texts)}, {}, "error")


def test_it_is_read_as_it_was_written_and_keeps_no_row():
    data = _baseline().to_json()
    assert parse_baseline(data, _SIGNATURES) == _baseline()
    assert b"secret" not in data
    words = np.array([b"secret", b"other"] * 300, object)
    assert (
        b"secret" not in Baseline("s", 600, {"text": describe("categories", words)}, {}).to_json()
    )


def _text(tree):
    return tree["inputs"]["text"]["statistics"]["length"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree.pop("rows"), "rows: field required"),
        (lambda tree: tree.update(format=2), "format"),
        (lambda tree: tree.update(signature="t"), "signature 't', which the model does not have"),
        (lambda tree: tree.update(signature="scalar"), "no batch dimension"),
        (lambda tree: tree["inputs"].update(x=tree["inputs"]["text"]), "input 'x'"),
        (lambda tree: tree["outputs"].update(x=tree["inputs"]["text"]), "output 'x'"),
        (lambda tree: tree.update(reconstruction_error="y"), "error 'y'"),
        (lambda tree: _text(tree)["edges"].reverse(), "the edges do not ascend"),
        (lambda tree: _text(tree)["counts"].pop(), "edges do not make"),
        (lambda tree: _text(tree)["counts"].append(-1), "greater than or equal to 0"),
    ],
)
def test_a_broken_one_is_refused_with_its_place(change, said):
    tree = json.loads(_baseline().to_json())
    change(tree)
    with pytest.raises(RepositoryError, match=r"drift-baseline\.json") as refused:
        parse_baseline(json.dumps(tree).encode(), _SIGNATURES)
    assert said in str(refused.value)


def test_what_is_no_json_is_refused():
    with pytest.raises(RepositoryError, match=r"drift-baseline\.json is broken"):
        parse_baseline(b"\x00", _SIGNATURES)
