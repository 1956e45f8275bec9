"""How a model is measured; the whole of it runs in test_comparison, in processes of its own."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from serve.errors import ConfigError
from serve.evaluation import measure
from serve.evaluation.measure import BATCH_ROWS, compute_all, dataset_for, rss_mb


def test_all_rows_are_computed_in_batches_and_come_back_in_order():
    sizes = []

    def compute(inputs):
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    rows = np.arange(2 * BATCH_ROWS + 5)
    assert (compute_all(compute, {"x": rows})["y"] == 2 * rows).all()
    assert sizes == [BATCH_ROWS, BATCH_ROWS, 5]


def test_memory_is_that_of_the_process_that_is_named():
    assert rss_mb() == pytest.approx(rss_mb(os.getpid()), rel=0.5)
    script = "x = b'x' * 200_000_000; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        assert 200 < rss_mb(process.pid) < 400
        process.stdin.close()


def _model(rows, flops):
    return SimpleNamespace(rows=rows, complexity=lambda: SimpleNamespace(flops=flops))


def test_a_models_operations_count_as_often_as_it_was_given_a_row():
    subject = SimpleNamespace(models=(_model(100, 5.0), _model(10, 200.0)))
    assert measure._flops_of_a_row(subject, 100) == pytest.approx(5 + 0.1 * 200)


def test_operations_that_one_model_does_not_tell_are_unknown_for_all():
    subject = SimpleNamespace(models=(_model(100, 5.0), _model(10, None)))
    assert measure._flops_of_a_row(subject, 100) is None


def test_times_are_of_rows_drawn_anew_for_each_call(monkeypatch):
    monkeypatch.setattr(measure, "_SECONDS", 0.05)
    seen = []

    def compute(inputs):
        seen.append(tuple(inputs["x"].tolist()))
        return {}

    rates, median_ms, p99_ms = measure._times(compute, {"x": np.arange(1000)}, 1000)
    assert {len(rows) for rows in seen} == {BATCH_ROWS, 1}
    assert len(set(seen)) > 2
    assert rates > 0
    assert 0 <= median_ms <= p99_ms


def test_data_is_a_file_unless_it_is_held_out(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3), label=np.zeros(3, int))
    subject = SimpleNamespace(metadata={}, served=SimpleNamespace(name="own"))
    assert len(dataset_for(str(tmp_path / "data.npz"), subject)) == 3
    with pytest.raises(ConfigError, match="own"):
        dataset_for("held-out", subject)


def test_an_error_for_people_goes_out_as_json():
    task = '{"config": "nowhere.yaml", "name": "m", "version": null, "data": "held-out"}'
    done = subprocess.run(
        [sys.executable, "-m", "serve.evaluation.measure"],
        input=task,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith('{"error": "nowhere.yaml: no such file')
