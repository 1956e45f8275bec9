"""A candidate's process does its job, and leaves a report of it."""

import subprocess
import sys
from dataclasses import replace

import pytest

from serve.engines.engine import EngineOptions
from serve.selection import candidate
from serve.selection.candidate import JOB, REPORT, Job, run
from serve.selection.cases import make_samples, write_samples
from tests.unit.selection.fakes import NAME, SIGNATURE, engine_of, write_ir


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(candidate, "_TURN_S", 0.0)
    write_samples(make_samples(engine_of()), tmp_path / "samples")
    write_ir(tmp_path / "0.xml")
    return Job(
        library="openvino",
        native="tensorflow",
        version=tmp_path / "1",
        files={NAME: tmp_path / "0.xml"},
        signatures=(SIGNATURE,),
        default_signature=NAME,
        platform="keras",
        samples=tmp_path / "samples",
        sizes=(1, 8),
        options=EngineOptions(),
        report=tmp_path / "report.json",
    )


def test_a_job_is_read_as_it_was_written_and_ends_in_a_report(job, tmp_path):
    assert JOB.validate_json(JOB.dump_json(job)) == job
    (tmp_path / "job.json").write_bytes(JOB.dump_json(job))
    command = [sys.executable, "-m", "serve.selection.candidate", str(tmp_path / "job.json")]
    subprocess.run(command, check=True)
    report = REPORT.validate_json(job.report.read_bytes())
    assert report.refused == ""
    assert list(report.measured.rows_per_s) == [1, 8]
    assert report.measured.memory_bytes > 10**7


def test_what_computes_other_numbers_is_refused(job):
    write_ir(job.files[NAME], factor=2.01)
    report = run(job)
    assert report.measured is None
    assert report.refused.startswith("output 'y'[")


def test_what_cannot_be_loaded_is_refused(job):
    job.files[NAME].write_bytes(b"<net/>")
    assert "OpenVINO cannot load it" in run(job).refused


def test_a_signature_whose_rows_are_together_is_measured_by_its_calls(job):
    whole = replace(SIGNATURE, batched=False)
    measured = run(replace(job, signatures=(whole,))).measured
    assert list(measured.rows_per_s) == [0]
