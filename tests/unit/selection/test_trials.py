"""Whatever a candidate does, the version is served, by what is right, with the reason."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.errors import InferenceFailed
from serve.selection import candidate, libraries, trials
from serve.selection.candidate import JOB, REPORT
from serve.selection.loading import load
from serve.selection.trials import Trial, choose, try_engines
from serve.selection.verdict import Candidate, Measured, read_verdict
from tests.unit.selection.fakes import (
    NAME,
    double,
    engine_of,
    signature_of,
    table,
    write_ir,
)

_SIZES = (1, 2, 4)
_OPTIONS = EngineOptions(sizes=_SIZES)
_RUN = trials.run


class Workshop:
    """Candidates in this process, by library; what is told to happen instead happens."""

    def __init__(self, folder, monkeypatch):
        self.engines = {"openvino": double, "onnxruntime": double}
        self.scripts = {}  # what runs in a process in place of a candidate, or of a conversion
        self.folder = folder
        self.converted = []
        self.model = engine_of()
        (folder / "1").mkdir()
        (folder / "1" / "saved_model.pb").write_bytes(b"")
        monkeypatch.setattr(trials, "run", self._run)
        monkeypatch.setattr(candidate, "_load", self._load)
        monkeypatch.setattr(candidate, "_TURN_S", 0.0)
        monkeypatch.setattr(libraries, "conversion", lambda *what: ["convert", *what])

    def verdict(self, **options):
        trial = Trial(self.folder / "1", replace(_OPTIONS, **options), _SIZES)
        return try_engines(trial, self.model, self.folder / "made")

    def refused(self, library="openvino"):
        """Try, see that the version is served as it is, and return why."""
        verdict = self.verdict(library=library)
        assert (verdict.chosen, verdict.files) == ("tensorflow", {})
        assert read_verdict(self.folder / "made") == verdict
        assert verdict.of(library).measured is None
        assert verdict.of("tensorflow").measured is not None
        assert f"{library}: " in verdict.reason
        return verdict.of(library).refused

    def _run(self, command, bounds, log):
        if command[0] == "convert":
            _, library, _, file = command
            self.converted.append(library)
            if f"convert {library}" in self.scripts:
                script = self.scripts[f"convert {library}"]
                return _RUN([sys.executable, "-c", script], bounds, log)
            write_ir(file.with_suffix(".xml"))  # only OpenVINO's is loaded here
            file.touch()
            return ""
        self.job = JOB.validate_json(Path(command[-1]).read_bytes())
        script = self.scripts.get(self.job.library)
        if script:
            name = str(self.job.report)
            return _RUN([sys.executable, "-c", f"report = {name!r}\n{script}"], bounds, log)
        self.job.report.write_bytes(REPORT.dump_json(candidate.run(self.job)))
        return ""

    def _load(self, job):
        if job.library == job.native:
            return self.model
        return engine_of(self.engines[job.library], self.model.signatures[NAME])


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    return Workshop(tmp_path, monkeypatch)


@pytest.fixture
def impatient(monkeypatch):
    """Candidates have seconds and 200 MiB."""
    monkeypatch.setattr(trials, "_LEAST_S", 2.0)
    monkeypatch.setattr(trials, "_TIMES_LONGER", 0)
    monkeypatch.setattr(trials, "_LEAST_BYTES", 200 * 2**20)
    monkeypatch.setattr(trials, "_TIMES_LARGER", 0)


_DEEDS = {
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "it was ended by SIGSEGV",
    "import os; os.abort()": "it was ended by SIGABRT",
    "import signal; signal.pause()": "it had not ended after 2 s",
    "import signal; x = bytearray(b'1') * 400_000_000; signal.pause()": "of memory",
    "raise RuntimeError('No conversion rule for Foo')": "RuntimeError: No conversion rule for Foo",
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("deed", _DEEDS)
@pytest.mark.parametrize("when", ["", "convert "])
def test_a_candidate_that_crashes_hangs_or_eats_memory_is_refused(
    workshop, deed, when, monkeypatch
):
    if "had not ended" not in _DEEDS[deed]:  # a busy machine is given its time
        monkeypatch.setattr(trials, "_LEAST_S", 300.0)
    workshop.scripts[f"{when}openvino"] = deed
    said = workshop.refused()
    assert _DEEDS[deed] in said
    assert said.startswith("it cannot be converted: ") == bool(when)


@pytest.mark.parametrize("deed", ["pass", "open(report, 'w')", "open(report, 'w').write('{1}')"])
def test_a_candidate_that_ends_well_and_says_nothing_is_refused(workshop, deed):
    workshop.scripts["openvino"] = deed
    assert workshop.refused() == "it ended without a report"


def test_a_conversion_that_writes_nothing_is_refused(workshop):
    workshop.scripts["convert openvino"] = "pass"
    assert workshop.refused() == "it cannot be converted: it wrote no file"


def _wrong(inputs, where):
    outputs = double(inputs)
    outputs["y"][where] += 1
    return outputs


_LIES = {
    "in one number": lambda inputs: _wrong(inputs, (-1, -1)),
    "at one batch size": lambda i: _wrong(i, 0) if len(i["x"]) == 2 else double(i),
    "in another row order": lambda i: _wrong(i, 0) if i["x"][0, 0] < i["x"][-1, 0] else double(i),
    "for large values": lambda i: _wrong(i, 0) if abs(i["x"]).max() > 1_000 else double(i),
    "for NaN": lambda i: {
        "y": np.nan_to_num(i["x"], posinf=0, neginf=0) * np.float32(2) + np.float32(1)
    },
    "in the type": lambda i: {"y": double(i)["y"].astype(np.float64)},
    "in the shape": lambda i: {"y": double(i)["y"][:, :1]},
    "by a name": lambda i: {"z": double(i)["y"]},
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_candidate_that_lies_is_refused_with_the_worst_element(workshop, lie):
    workshop.engines["openvino"] = _LIES[lie]
    assert workshop.refused().startswith(("output 'y'", "its outputs are z instead of y"))


@pytest.mark.parametrize("datatype", ["FP64", "FP16", "INT8", "INT32", "INT64", "UINT8"])
def test_a_candidate_that_lies_on_one_data_type_is_refused(workshop, datatype):
    workshop.model = engine_of(lambda i: {"y": i["x"] + i["x"]}, signature_of(datatype))

    def through_another_type(inputs):
        x = inputs["x"]
        narrow = x.astype(np.float32).clip(0, 3).astype(x.dtype)
        return {"y": narrow + narrow}

    workshop.engines["openvino"] = through_another_type
    assert workshop.refused().startswith("output 'y'[")


def test_a_candidate_that_computes_what_the_model_refuses_is_refused(workshop):
    workshop.model = engine_of(table, signature_of("INT64"))
    workshop.engines["openvino"] = lambda i: table({"x": i["x"] % 10})
    assert "it computes what the model refuses" in workshop.refused()


def test_a_candidate_that_cannot_compute_is_refused(workshop):
    def raises(_):
        raise InferenceFailed("OpenVINO raised while computing")

    workshop.engines["openvino"] = raises
    assert workshop.refused().startswith("it does not compute: OpenVINO raised")


def test_of_those_that_are_right_one_is_taken_with_what_it_loads(workshop, tmp_path, monkeypatch):
    workshop.engines["onnxruntime"] = _LIES["in one number"]
    monkeypatch.setattr(trials, "_WORTH", 0.0)
    monkeypatch.setattr(trials, "_LEAST_SPEED", 0.0)  # calls of microseconds, on a busy machine
    verdict = workshop.verdict()
    assert workshop.converted == ["openvino", "onnxruntime"]
    assert (verdict.chosen, dict(verdict.files)) == ("openvino", {NAME: "0.xml"})
    assert verdict.of("onnxruntime").refused.startswith("output 'y'[")
    names = {"0.xml", "0.bin", "cases.json", "cases.npz"}
    assert set(verdict.digests) == names
    assert {path.name for path in (tmp_path / "made").iterdir()} == {*names, "verdict.json"}
    engine = load(tmp_path / "1", _OPTIONS, tmp_path / "made")
    assert engine.name == "openvino"


def test_only_the_library_that_is_set_is_tried(workshop):
    verdict = workshop.verdict(library="onnxruntime")
    assert workshop.converted == ["onnxruntime"]
    assert verdict.chosen == "onnxruntime", "however fast it is"


def test_texts_and_a_state_are_left_to_tensorflow(workshop):
    workshop.model = engine_of(double, signature_of("BYTES"))
    assert workshop.verdict().reason == "only tensorflow has texts ('x')"
    workshop.model = engine_of()
    workshop.model.state_ops = lambda name: ("AssignAddVariableOp",)
    verdict = try_engines(
        Trial(workshop.folder / "1", _OPTIONS, _SIZES), workshop.model, workshop.folder / "again"
    )
    assert "keeps a state between calls (AssignAddVariableOp)" in verdict.reason
    assert workshop.converted == []


def test_a_library_that_is_not_installed_is_not_tried(workshop, monkeypatch):
    monkeypatch.setattr(libraries, "release", lambda library: "")
    assert "it is not installed" in workshop.refused()
    assert workshop.converted == []


def test_a_version_whose_own_library_fails_in_a_process_is_left_as_it_is(workshop):
    workshop.scripts["tensorflow"] = "import os; os._exit(9)"
    verdict = workshop.verdict()
    assert verdict.chosen == "tensorflow"
    assert verdict.reason == "tensorflow: it ended with status 9"


def test_a_full_disk_is_no_verdict(workshop, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(trials, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        workshop.verdict(library="openvino")
    assert not (workshop.folder / "made" / "verdict.json").exists()


def _candidates(own, **others):
    rates = {"tensorflow": own, **others}
    return [
        Candidate(name, "1", Measured(dict(zip((1, 32), rate, strict=True)), 1.0, 10**8))
        if isinstance(rate, tuple)
        else Candidate(name, "1", refused=rate)
        for name, rate in rates.items()
    ]


@pytest.mark.parametrize(
    ("others", "is_set", "chosen", "said"),
    [
        ({"openvino": (20, 20), "onnxruntime": (30, 30)}, False, "onnxruntime", "3.0, 3.0 times"),
        ({"openvino": (40, 7)}, False, "openvino", "4.0, 0.7 times as fast as tensorflow at 1 and"),
        ({"openvino": (40, 5)}, False, "tensorflow", "0.50 times as fast at 32 rows a call"),
        ({"openvino": (40, 5)}, True, "openvino", "4.0, 0.5 times as fast"),
        ({"openvino": (9.5, 9.5)}, False, "openvino", "0 MB less"),
        ({"openvino": (5, 5)}, False, "tensorflow", "openvino: 0.50 times as fast"),
        ({"openvino": (5, 5)}, True, "openvino", "0.5, 0.5 times as fast"),
        ({"openvino": "it lies"}, True, "tensorflow", "openvino: it lies"),
        ({}, False, "tensorflow", "nothing else was tried"),
    ],
)
def test_the_fastest_at_one_row_and_at_many_is_chosen(others, is_set, chosen, said):
    found, reason = choose("tensorflow", _candidates((10, 10), **others), is_set=is_set)
    assert found == chosen
    assert said in reason


def test_a_real_version_is_tried_by_real_processes_and_computed_as_before(tmp_path):
    import keras

    from serve.engines import loading

    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(3, activation="softmax", name="y")(x)
    (tmp_path / "1").mkdir()
    keras.Model(x, y).save(tmp_path / "1" / "model.keras")
    options = replace(_OPTIONS, library="openvino")
    native = loading.load(tmp_path / "1", options)
    native.warmup((1,))
    verdict = try_engines(Trial(tmp_path / "1", options, _SIZES), native, tmp_path / "made")
    assert verdict.chosen == "openvino", verdict.reason
    own, other = verdict.candidates
    assert list(own.measured.rows_per_s) == list(other.measured.rows_per_s) == [1, 4]
    assert other.measured.memory_bytes < own.measured.memory_bytes
    assert verdict.parameters == 15
    engine = load(tmp_path / "1", options, tmp_path / "made")
    assert engine.name == "openvino"
    rows = {"x": np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)}
    right = native.infer(NAME, rows)["y"]
    np.testing.assert_allclose(engine.infer(NAME, rows)["y"], right, rtol=1e-4, atol=1e-6)
