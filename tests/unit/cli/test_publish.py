"""`strata publish`: a model that loads becomes a version, with its baseline or not at all."""

import json

import numpy as np
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from serve.cli.publish import try_version
from serve.errors import ConfigError
from serve.evaluation.baselines import Examples
from serve.repository.publish import publish
from serve.repository.repository import Repository


def test_publish_and_models_go_together(strata, config, keras_file):
    code, printed, _ = strata("publish", keras_file, "--name", "tiny", "-c", config)
    assert code == 0
    assert "published tiny version 1 (keras" in printed
    _, printed, _ = strata("models", "-c", config)
    assert printed.splitlines()[2].split()[:3] == ["tiny", "1", "keras"]


def test_a_baseline_is_published_with_the_model_or_nothing_is(
    strata, refused, config, keras_file, tmp_path
):
    x = np.random.default_rng(0).normal(size=(600, 2))
    np.savez(tmp_path / "good.npz", x=x.astype(np.float32), label=np.zeros(600))
    np.savez(tmp_path / "bad.npz", x=x)
    publish = ["publish", keras_file, "--name", "tiny", "-c", config, "--baseline"]
    error = refused(*publish, tmp_path / "bad.npz")
    assert "bad.npz: input 'x' is FP64 [600, 2], model 'tiny' expects 'x' FP32 [-1, 2]" in error
    code, printed, _ = strata(*publish, tmp_path / "good.npz")
    assert code == 0
    assert "published tiny version 1 (keras" in printed
    assert "with a drift baseline" in printed
    baseline = json.loads((config.parent / "models/tiny/1/drift-baseline.json").read_text())
    assert (baseline["rows"], list(baseline["outputs"])) == (600, ["y"])


def test_the_manifest_has_the_signature_that_the_loaded_model_has(strata, config, keras_file):
    strata("publish", keras_file, "--name", "tiny", "--version", "7", "-c", config)
    manifest = json.loads((config.parent / "models/tiny/7/manifest.json").read_text())
    (given,) = manifest["signature"]["inputs"]
    assert (given["name"], given["datatype"], given["shape"]) == ("x", "FP32", [-1, 2])


def test_a_version_is_signed_and_models_tells_one_that_is_not(
    strata, refused, config, keras_file, tmp_path
):
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "strata.key").write_bytes(pem)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "strata.pub").write_bytes(public)
    publish = ["publish", keras_file, "--name", "tiny", "-c", config]
    assert strata(*publish)[0] == 0
    tree = yaml.safe_load(config.read_text())
    tree["repository"] |= {"require_signed": True, "public_keys": [str(tmp_path / "strata.pub")]}
    config.write_text(yaml.safe_dump(tree))
    assert "--sign KEYFILE" in refused(*publish)
    assert strata(*publish, "--sign", tmp_path / "strata.key")[0] == 0
    _, printed, _ = strata("models", "-c", config)
    assert "is not signed" in " ".join(printed.split())
    assert any(line.startswith("tiny   2        keras") for line in printed.splitlines())


def test_a_model_that_does_not_load_is_not_published(refused, config, keras_file, tmp_path):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(keras_file.read_bytes().replace(b"config.json", b"gonfic.json"))
    error = refused("publish", broken, "--name", "broken", "-c", config)
    assert "There is no item named 'config.json' in the archive" in error
    assert not (config.parent / "models" / "broken").exists()


def test_what_computes_it_is_found_out_and_kept_beside_the_version(
    strata, config, keras_file, trials, tmp_path
):
    code, printed, said = strata("publish", keras_file, "--name", "tiny", "-c", config)
    assert code == 0
    assert "computed by tensorflow: openvino: it lies" in printed
    assert "engines: trying openvino 1.0" in said
    (kept,) = (config.parent / "models/tiny/.engines").glob("*/*/verdict.json")
    repository = Repository(str(config.parent / "models"), tmp_path / "cache")
    assert kept.parents[1].name == repository.content("tiny", 1)
    assert [trial.options.rows for trial in trials.tried] == ["auto"]


def test_engines_are_not_tried_where_that_is_not_wanted(strata, config, keras_file, trials):
    publish = ["publish", keras_file, "--name", "tiny", "-c", config]
    _, printed, _ = strata(*publish, "--no-try-engines")
    assert "computed by" not in printed
    config.write_text(
        json.dumps(
            {"repository": {"root": "models"}, "models": [{"name": "tiny", "engine": "tensorflow"}]}
        )
    )
    strata(*publish)
    assert trials.tried == []
    assert not (config.parent / "models/tiny/.engines").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyError("whatever")])
def test_a_trial_that_fails_is_a_warning_and_the_version_is_published(
    strata, config, keras_file, monkeypatch, error
):
    def fails(*_):
        raise error

    monkeypatch.setattr("serve.cli.publish.try_engines", fails)
    code, printed, said = strata("publish", keras_file, "--name", "tiny", "-c", config)
    assert (code, "published tiny version 1" in printed) == (0, True)
    assert f"warning: other engines were not tried: {type(error).__name__}: " in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.keras", "--name", "a"], "nothing.keras"),
        (["a.keras", "--name", "my%model"], "'my%model' cannot name a model"),
        (["a.keras", "--name", "a", "--reconstruction-error", "y"], "needs --baseline"),
    ],
)
def test_what_cannot_be_published_is_refused(refused, config, arguments, said):
    assert said in refused("publish", *arguments, "-c", config)


def _keras_model(path, name, width=2):
    import keras

    x = keras.Input((width,), name=name)
    keras.Model(x, keras.layers.Dense(1, name="y")(x)).save(path)
    return path


def test_names_and_shapes_that_clients_know_otherwise_are_said(strata, config, tmp_path):
    publish = ["--name", "tiny", "-c", config]
    for file in (_keras_model(tmp_path / "a.keras", "keras_tensor_3"), tmp_path / "a.keras"):
        code, printed, _ = strata("publish", file, *publish)
        assert (code, "clients" in printed) == (0, False)
    code, printed, _ = strata(
        "publish", _keras_model(tmp_path / "b.keras", "keras_tensor_6"), *publish
    )
    said = " ".join(printed.split())
    assert code == 0
    assert "clients of version 2 may have to change: input 'keras_tensor_3' is now" in said
    _, printed, _ = strata(
        "publish", _keras_model(tmp_path / "c.keras", "keras_tensor_6", width=3), *publish
    )
    said = " ".join(printed.split())
    assert "input 'keras_tensor_6' was FP32 [-1, 2] and is FP32 [-1, 3]" in said


def test_a_model_that_does_not_load_is_named_by_its_own_path(refused, config, keras_file, tmp_path):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(keras_file.read_bytes().replace(b"config.json", b"gonfic.json"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "some.keras").write_bytes(broken.read_bytes())
    for source, path in ((broken, broken), (folder, folder / "some.keras")):
        error = refused("publish", source, "--name", "broken", "-c", config)
        assert str(path) in error
        assert ".publishing" not in error


def test_a_version_whose_baseline_cannot_be_made_is_not_published(tmp_path, keras_file):
    repository = Repository(str(tmp_path), tmp_path / "cache")
    examples = Examples({"x": np.zeros((10, 2), np.float32)}, "rows.npz")
    with pytest.raises(ConfigError, match=r"rows\.npz: has 10 rows"):
        publish(
            keras_file,
            repository,
            "tiny",
            validate=lambda path: try_version(path, "tiny", examples=examples),
        )
    assert repository.versions("tiny") == []
