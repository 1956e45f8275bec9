"""A conversion is a process of its own, that ends as OpenVINO does."""

import subprocess
import sys

from tests.unit.engines.onnx_files import write_onnx


def _convert(source, target):
    command = [sys.executable, "-m", "serve.selection.conversion", str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_onnx_file_becomes_openvinos(tmp_path):
    write_onnx(tmp_path / "model.onnx")
    assert _convert(tmp_path / "model.onnx", tmp_path / "0.xml").returncode == 0
    assert (tmp_path / "0.xml").exists()
    assert (tmp_path / "0.bin").exists()


def test_what_openvino_cannot_read_is_said_in_the_last_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    done = _convert(tmp_path / "model.onnx", tmp_path / "0.xml")
    assert done.returncode == 1
    assert done.stderr.strip()
    assert not (tmp_path / "0.xml").exists()
