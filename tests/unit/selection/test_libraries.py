"""What each library needs, and why one cannot be tried."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from serve.engines.engine import EngineOptions
from serve.errors import RepositoryError
from serve.selection import libraries
from serve.selection.libraries import (
    conversion,
    open_engine,
    release,
    why_not_convertible,
    why_not_here,
)
from tests.unit.selection.fakes import NAME, SIGNATURE


@pytest.fixture
def installed(monkeypatch):
    """Set which distributions are installed."""

    def install(**releases):
        def version(name):
            if name.replace("-", "_") not in releases:
                raise metadata.PackageNotFoundError(name)
            return releases[name.replace("-", "_")]

        monkeypatch.setattr(libraries.metadata, "version", version)

    return install


def test_a_release_is_that_of_whatever_build_is_installed(installed):
    installed(onnxruntime="1.2", openvino="3.4")
    assert (release("onnxruntime"), release("openvino"), release("tensorflow")) == (
        "1.2",
        "3.4",
        "",
    )
    installed(onnxruntime_gpu="5.6")
    assert release("onnxruntime") == "5.6"


def test_on_a_card_only_a_build_for_cards_is_tried(installed):
    installed(onnxruntime="1.2", openvino="3.4")
    assert why_not_here("openvino", 0) == why_not_here("onnxruntime", 0) == ""
    assert "on processors, not on" in why_not_here("openvino", 1)
    assert "pip install onnxruntime-gpu" in why_not_here("onnxruntime", 1)
    installed(onnxruntime_gpu="5.6")
    assert why_not_here("onnxruntime", 1) == ""
    assert "it is not installed; pip install 'strata-serve[engines]'" in why_not_here("openvino", 0)


def test_onnx_is_made_of_a_saved_model_by_tf2onnx_alone(monkeypatch):
    assert why_not_convertible("onnxruntime", "tensorflow") == ""
    monkeypatch.setattr(libraries, "_has", lambda module: False)
    assert "tf2onnx is not installed" in why_not_convertible("onnxruntime", "tensorflow")
    assert why_not_convertible("openvino", "tensorflow") == ""
    assert why_not_convertible("onnxruntime", "onnxruntime") == ""


def test_conversions_run_with_this_interpreter():
    for library in ("openvino", "onnxruntime"):
        command = conversion(library, Path("/model"), Path("/target"))
        assert command[:2] == [sys.executable, "-m"]
        assert "/model" in command
        assert "/target" in command


def test_tensorflow_opens_no_files_that_were_made():
    with pytest.raises(RepositoryError, match="tensorflow loads versions as they are"):
        open_engine(
            "tensorflow", {NAME: Path("0")}, {NAME: SIGNATURE}, NAME, "keras", EngineOptions()
        )
