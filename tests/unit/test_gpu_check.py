"""The check itself needs a card; what it says where there is none, and how it runs a model."""

import subprocess
import sys

import gpu_check

from tests.unit.engines.fake_nvml import FakeNvml


def test_a_python_that_lacks_packages_is_told_which(capsys, monkeypatch):
    monkeypatch.setattr(gpu_check, "_is_there", lambda module: module != "tensorflow")
    assert gpu_check.main() == 2
    assert "lacks tensorflow[and-cuda]; pip install" in capsys.readouterr().out


def test_a_machine_without_a_card_is_told_so(capsys, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_check, "_is_there", lambda module: True)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert gpu_check.main() == 2
    assert "the driver shows no card" in capsys.readouterr().out


def test_a_model_without_a_gpu_computes_on_the_cpu_and_ends_with_the_check(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ".:scripts")
    gpu_check._save_model(str(tmp_path))
    with gpu_check._holder(0, str(tmp_path)) as seen:
        assert (seen["right"], seen["gpus"]) == (True, 0)
        assert "CPU" in seen["device"]


def test_it_is_run_by_its_script():
    done = subprocess.run(
        ["scripts/gpu-check", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: scripts/gpu-check" in done.stdout
