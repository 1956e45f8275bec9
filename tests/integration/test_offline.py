"""Offline prediction on a Ray of its own, beside the platform of the other tests."""

import os
import subprocess
import sys

import numpy as np
import pytest
from pyarrow.parquet import read_table


@pytest.fixture(scope="module")
def images(held_out, tmp_path_factory):
    path = tmp_path_factory.mktemp("offline") / "images.npz"
    # A last batch that is not full, and numbers of another width than the model's.
    np.savez(path, image=held_out[:200].astype(np.float64), label=np.arange(200))
    return path


@pytest.fixture(scope="module")
def held_out():
    from serve.learn.data import digits

    return digits().x_test


@pytest.fixture(scope="module")
def config(trained, tmp_path_factory):
    from serve.repository.publish import publish
    from serve.repository.repository import Repository

    folder = tmp_path_factory.mktemp("repository")
    publish(trained, Repository(str(folder / "models"), folder / "cache"), "digits")
    path = folder / "strata.yaml"
    path.write_text("models: [{name: digits}]\nrepository: {root: models}\n")
    return path


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**environment, "RAY_ADDRESS": "local", "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    return done


@pytest.mark.integration
def test_offline_answers_are_those_of_the_model_in_process(
    config, images, held_out, keras_model, tmp_path
):
    output = str(tmp_path / "predictions")
    done = run(
        *("-m", "serve.offline", "digits", "--config", str(config)),
        *("--input", str(images), "--output", output),
    )
    assert done.returncode == 0, done.stderr
    assert "digits: 200 rows in" in done.stdout
    rows = read_table(output).sort_by("row").to_pydict()
    assert rows["row"] == rows["label"] == list(range(200))
    assert "image" not in rows
    expected = keras_model(held_out[:200]).numpy()
    np.testing.assert_allclose(rows["probabilities"], expected, atol=1e-5)


@pytest.mark.integration
def test_offline_refuses_a_file_whose_arrays_differ_in_rows(config, tmp_path):
    path = tmp_path / "uneven.npz"
    np.savez(path, image=np.zeros((2, 28, 28, 1)), label=np.zeros(3))
    done = run("-m", "serve.offline", "digits", "--config", str(config), *_files(path, tmp_path))
    assert done.returncode == 1
    assert "must have as many rows each" in done.stderr


def _files(path, folder):
    return ("--input", str(path), "--output", str(folder / "out"))
