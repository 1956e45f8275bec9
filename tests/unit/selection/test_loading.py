"""A verdict counts where it was found and proved anew; else a version is loaded as it is."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError
from serve.repository.manifest import record
from serve.selection import libraries, loading
from serve.selection.loading import NOT_TRIED, load
from serve.selection.verdict import Candidate, read_verdict
from tests.unit.selection.fakes import (
    NAME,
    SIGNATURE,
    engine_of,
    write_engines,
    write_ir,
)

_OPTIONS = EngineOptions(sizes=(1, 4))
_X = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
def engines(tmp_path):
    write_engines(tmp_path / "engines")
    return tmp_path / "engines"


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """What loads a version as it is."""
    monkeypatch.setattr(loading.loading, "load", lambda version, options: engine_of())


def _loaded(tmp_path, engines, options=_OPTIONS):
    engine = load(tmp_path / "1", options, engines)
    np.testing.assert_array_equal(engine.infer(NAME, {"x": _X})["y"], _X * 2 + 1)
    return engine


def _rewrite(engines, **changes):
    verdict = replace(read_verdict(engines), **changes)
    (engines / "verdict.json").write_bytes(verdict.to_json())


def test_a_version_is_computed_by_the_library_that_was_chosen(tmp_path, engines):
    engine = _loaded(tmp_path, engines)
    assert (engine.name, engine.reason, engine.platform) == (
        "openvino",
        "3.0 times as fast",
        "keras",
    )
    assert engine.signatures[NAME].batched
    assert engine.complexity().parameters == 3


def test_a_replica_of_another_library_imports_neither_tensorflow_nor_the_third(tmp_path, engines):
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from serve.engines.engine import EngineOptions\n"
        "from serve.selection.loading import load\n"
        f"engine = load(Path({str(tmp_path / '1')!r}), EngineOptions(sizes=(1, 4)),"
        f" Path({str(engines)!r}))\n"
        "engine.warmup((1, 4))\n"
        f"y = engine.infer({NAME!r}, {{'x': np.ones((2, 3), np.float32)}})['y']\n"
        "assert engine.name == 'openvino' and (y == 3).all()\n"
        "others = {'tensorflow', 'keras', 'tf_keras', 'onnxruntime', 'tf2onnx', 'onnx', 'h5py'}\n"
        "sys.exit(', '.join(others & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hardware": "x86_64 avx2"}, "it was tried on x86_64 avx2, and this is "),
        ({"candidates": (Candidate("openvino", "1.0"),)}, "it was tried with openvino 1.0, and "),
        ({"chosen": "tensorflow", "reason": "slower"}, "slower"),
        ({"form": 0}, "verdict.json is of form 0"),
        ({"files": {NAME: "1.xml"}}, "openvino failed when it was loaded: "),
        ({"files": {NAME: "../0.xml"}}, "lists '../0.xml', which leaves the engines' folder"),
        ({"digests": {"/0.xml": "0"}}, "lists '/0.xml', which leaves the engines' folder"),
        ({"files": {}}, "openvino failed when it was loaded: KeyError"),
        ({"digests": {"2.bin": "0"}}, "2.bin' cannot be read: No such file"),
        ({"chosen": "onnxruntime"}, "it was tried with onnxruntime 1, and "),
    ],
)
def test_a_verdict_that_does_not_count_here_is_said_to(tmp_path, engines, changes, said):
    _rewrite(engines, **changes)
    engine = _loaded(tmp_path, engines)
    assert engine.name == "tensorflow"
    assert said in engine.reason


@pytest.mark.parametrize("name", ["verdict.json", "0.xml", "0.bin", "cases.json", "cases.npz"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "other"])
@pytest.mark.parametrize("has_digests", [True, False])
def test_what_is_damaged_is_not_loaded_or_not_served(tmp_path, engines, name, damage, has_digests):
    if not has_digests:
        _rewrite(engines, digests={})
    data = (engines / name).read_bytes()
    if damage == "gone":
        (engines / name).unlink()
    else:
        damaged = {"empty": b"", "cut": data[: len(data) // 2], "other": b"{}"}
        (engines / name).write_bytes(damaged[damage])
    engine = _loaded(tmp_path, engines)
    assert engine.name == "tensorflow"
    assert engine.reason


def test_a_library_that_has_come_to_compute_other_numbers_is_not_served(tmp_path, engines):
    write_ir(engines / "0.xml", factor=2.01)
    names = ("0.xml", "0.bin", "cases.json", "cases.npz")
    _rewrite(engines, digests={name: record(engines / name).sha256 for name in names})
    engine = _loaded(tmp_path, engines)
    assert engine.name == "tensorflow"
    assert "openvino failed when it was loaded: signature 'serving_default': output" in (
        engine.reason
    )


def test_a_library_that_lies_at_one_size_that_the_config_asks_for_is_not_served(
    tmp_path, engines, monkeypatch
):
    opened = libraries.open_engine

    def lying(*arguments):
        engine = opened(*arguments)
        right = engine.infer

        def infer(name, inputs):
            outputs = right(name, inputs)
            if len(inputs["x"]) == 7:
                outputs["y"][6, 2] += 1
            return outputs

        engine.infer = infer
        return engine

    monkeypatch.setattr(libraries, "open_engine", lying)
    assert _loaded(tmp_path, engines).name == "openvino"
    engine = _loaded(tmp_path, engines, EngineOptions(sizes=(1, 7)))
    assert engine.name == "tensorflow"
    assert "output 'y'[6, 2] is" in engine.reason


@pytest.mark.parametrize(
    ("library", "name", "reason"),
    [
        ("tensorflow", "tensorflow", "set by engine: tensorflow"),
        ("openvino", "openvino", "3.0 times as fast"),
        ("onnxruntime", "tensorflow", "onnxruntime: output 'y'[0, 0] is 1 instead of 2"),
    ],
)
def test_a_library_that_is_set_computes_if_it_was_chosen(tmp_path, engines, library, name, reason):
    engine = _loaded(tmp_path, engines, replace(_OPTIONS, library=library))
    assert (engine.name, engine.reason) == (name, reason)


def test_a_library_that_was_right_and_not_chosen_is_to_be_tried_again(tmp_path, engines):
    _rewrite(engines, chosen="tensorflow", candidates=(Candidate("openvino", "1"),))
    engine = _loaded(tmp_path, engines, replace(_OPTIONS, library="openvino"))
    assert engine.reason == (
        "openvino was not chosen when the engines were tried; run strata engines"
    )


def test_without_a_verdict_it_is_said_that_nothing_was_tried(tmp_path):
    assert _loaded(tmp_path, None).reason == NOT_TRIED


def test_another_default_signature_than_was_tried_is_loaded_as_it_is(tmp_path, engines):
    options = replace(_OPTIONS, signature="other")
    assert "it was tried with signature 'serving_default'" in (
        _loaded(tmp_path, engines, options).reason
    )


def test_rows_are_together_or_independent_as_the_config_says(tmp_path, engines):
    together = _loaded(tmp_path, engines, replace(_OPTIONS, rows="together"))
    assert (together.name, together.signatures[NAME].batched) == ("openvino", False)
    _rewrite(engines, signatures=(replace(SIGNATURE, batched=False),))
    independent = _loaded(tmp_path, engines, replace(_OPTIONS, rows="independent"))
    assert (independent.name, independent.signatures[NAME].batched) == ("openvino", True)


def test_what_the_versions_own_library_cannot_load_fails(tmp_path, engines, monkeypatch):
    def broken(version, options):
        raise RepositoryError("no model")

    monkeypatch.setattr(loading.loading, "load", broken)
    (engines / "0.xml").unlink()
    with pytest.raises(RepositoryError, match="no model"):
        load(tmp_path / "1", _OPTIONS, engines)
