"""What a replica loads and watches: a version with a baseline, without, and with a spoilt one."""

import asyncio
import json
import logging

import numpy as np
import pytest

from serve.cli.publish import try_version
from serve.config.schema import Model as ModelConfig
from serve.config.sections import RayActorOptions, VersionPolicy
from serve.evaluation.baselines import Examples
from serve.replica.model import Model
from serve.replica.version_sources import RepositorySource
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.types import InferRequest
from tests.unit.telemetry.fakes import FakeRecorder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    import keras

    path = tmp_path_factory.mktemp("keras") / "tiny.keras"
    model = keras.Sequential(
        [
            keras.Input((2,), name="x"),
            keras.layers.Dense(1, name="error", kernel_initializer="ones"),
        ]
    )
    model.save(path)
    return path


def _rows(count):
    return np.random.default_rng(0).normal(0, 1, (count, 2)).astype(np.float32)


@pytest.fixture
def repository(tmp_path, source):
    repository = Repository(str(tmp_path), tmp_path / "cache")
    examples = Examples({"x": _rows(1_000)}, "rows", "error")

    def validate(path):
        return try_version(path, "tiny", examples=examples)

    publish(source, repository, "tiny", validate=validate)
    return repository


def _load(repository, *, requests=0):
    recorder = FakeRecorder()

    async def scenario():
        source = RepositorySource(repository, "tiny", RayActorOptions())
        model = Model(ModelConfig(name="tiny"), source, recorder)
        await model.apply(VersionPolicy(latest=1), {})
        for _ in range(requests):
            monitor = model.versions[1].monitor
            monitor._next_look = 0.0  # rested
            await model.infer(InferRequest({"x": _rows(60)}))
            await asyncio.sleep(0)
        model.sample()
        return model

    return asyncio.run(scenario()), recorder


def test_a_version_with_a_baseline_says_how_far_its_rows_drifted(repository):
    manifest = repository.manifest("tiny", 1)
    assert "drift-baseline.json" in manifest.files
    _, recorder = _load(repository, requests=10)
    version = ("version", "1")
    assert recorder.value("model_drift_rows", version="1") == 600
    for tensor in ("input.x", "output.error"):
        assert recorder.gauges["model_drift_score", ("tensor", tensor), version] < 0.25
    assert recorder.gauges["model_reconstruction_error", version] == pytest.approx(
        _rows(60).sum(axis=1).mean(), abs=1e-5
    )


def test_a_version_without_a_baseline_is_not_watched(tmp_path, source):
    repository = Repository(str(tmp_path), tmp_path / "cache")
    publish(source, repository, "tiny", validate=try_version)
    model, recorder = _load(repository)
    assert model.versions[1].monitor is None
    assert not [name for name, *_ in recorder.gauges if "drift" in name]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-9] + b"        \n", "is not the file that was published"),
        (lambda data: b" " * len(data), "is not the file that was published"),
    ],
)
def test_a_spoilt_baseline_does_not_keep_the_version_from_serving(
    repository, tmp_path, caplog, spoil, said
):
    file = tmp_path / "tiny/1/drift-baseline.json"
    file.write_bytes(spoil(file.read_bytes()))
    with caplog.at_level(logging.WARNING, "ray.serve"):
        model, _ = _load(repository)
    assert model.versions[1].monitor is None
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if "is not watched" in line and said in line]) == 1


def test_a_baseline_of_another_model_does_not_either(repository, tmp_path, caplog):
    folder = tmp_path / "tiny/1"
    tree = json.loads((folder / "drift-baseline.json").read_text())
    tree["signature"] = "other"
    (folder / "drift-baseline.json").write_text(json.dumps(tree))
    (folder / "manifest.json").unlink()  # copied by hand
    by_hand = Repository(str(tmp_path), tmp_path / "cache")
    with caplog.at_level(logging.WARNING, "ray.serve"):
        model, _ = _load(by_hand)
    assert model.versions[1].monitor is None
    assert "signature 'other', which the model does not have" in caplog.text
