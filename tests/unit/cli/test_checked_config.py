"""A file is checked against the repository before anything is started or changed."""

import shutil
import zipfile

import pytest

from serve.cli.checked_config import check
from serve.config.file import load
from serve.errors import ConfigError
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.types import Signature, TensorSpec
from tests.authority import Authority

_STEPS = "{model: tiny}, {model: tiny, name: again%s}"
_TWICE = f"pipelines: [{{name: twice, kind: sequence, steps: [{_STEPS}]}}]\n"


@pytest.fixture
def write(config):
    """Return a function that writes the file; the repository beside it is empty."""
    (config.parent / "models").mkdir()

    def write(text):
        config.write_text(text)
        return config

    return write


def _copy_by_hand(keras_file, config):
    folder = config.parent / "models" / "tiny" / "1"
    folder.mkdir(parents=True)
    shutil.copy(keras_file, folder / "model.keras")


def _check(path, running=()):
    return check(load(path), running)


def test_what_has_no_version_waits(write, capsys):
    waiting = _check(write("models: [{name: digits}]\n" + _TWICE % ""))
    assert list(waiting) == ["digits", "twice"]
    assert capsys.readouterr().out == "", "whoever starts or changes the platform says so"


def test_what_runs_does_not_wait_but_has_to_fit_its_models(write, capsys):
    path = write("models: [{name: digits}]\n")
    assert _check(path, running={"digits"}) == {}
    assert "warning: models[0]: " in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"pipelines\[twice\]: there is no model"):
        _check(write(_TWICE % ""), running={"twice"})


def test_wires_are_compared_with_the_signature_of_a_model_without_a_manifest(write, keras_file):
    config = write(_TWICE % ", inputs: {x: tiny.y}")
    _copy_by_hand(keras_file, config)
    assert _check(config) == {}
    with pytest.raises(ConfigError, match=r"no tensor 'tiny\.z'"):
        _check(write(_TWICE % ", inputs: {x: tiny.z}"))


def test_a_model_with_a_signature_in_its_manifest_is_not_loaded(write, tmp_path):
    x, y = TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (-1, 2))
    with zipfile.ZipFile(tmp_path / "no-model.keras", "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", bytes(2000))
    publish(
        tmp_path / "no-model.keras",
        Repository(str(tmp_path / "models"), tmp_path / "cache"),
        "tiny",
        validate=lambda folder: [Signature("serving_default", (x,), (y,), True)],
    )
    with pytest.raises(ConfigError, match=r"pipelines\[twice\].steps\[1\].inputs.x"):
        _check(write(_TWICE % ", inputs: {x: tiny.z}"))
    assert _check(write(_TWICE % ", inputs: {x: tiny.y}")) == {}


def test_certificates_that_cannot_be_used_are_told_before_anything_is_started(write):
    path = write("http: {tls: {certificate: a.crt, key: a.key, client_ca: ca.crt}}\n")
    with pytest.raises(ConfigError, match=r"http\.tls\.certificate: there is no .*/a\.crt"):
        _check(path)
    Authority().pair("localhost").write(path.parent, "a")
    with pytest.raises(ConfigError, match=r"http\.tls\.client_ca: there is no .*/ca\.crt"):
        _check(path)
    (path.parent / "ca.crt").write_text(Authority().certificate)
    assert _check(path) == {}
