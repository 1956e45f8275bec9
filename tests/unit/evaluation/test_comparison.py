"""`strata compare` and `strata tune` on models that are small and real."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from serve.config.schema import Config
from serve.config.sections import Prices, RayActorOptions
from serve.engines.engine import EngineOptions
from serve.errors import InvalidRequest, RepositoryError
from serve.evaluation import comparison
from serve.evaluation.comparison import _by_engine, cost_of_a_million, parse_references
from serve.evaluation.measure import Figures
from serve.evaluation.quality import Asked
from serve.evaluation.subject import Reference
from serve.repository.publish import publish
from serve.repository.repository import Repository
from serve.selection.version_trial import here
from tests.unit.selection.fakes import write_engines

_FILE = """\
# Three models.
repository: {root: models}
prices: {cpu_hour: 3600}
models: [{name: dear}]
pipelines:
  - name: halves
    kind: cascade
    layers:
      - model: sigmoid
        exit: {binary_probability: 0.6}
      - model: sigmoid-dear
  - name: layered
    kind: cascade
    layers:
      - model: cheap
        exit: {margin: 0.5}  # a guess
      - model: dear
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository with a cheap model that is right where it is sure, and a dear one."""
    import keras

    folder = tmp_path_factory.mktemp("compare")
    repository = Repository(str(folder / "models"), folder / "cache")
    for name, width, versions in (("cheap", 1, 1), ("dear", 2_000, 2)):
        model = _model(keras, width, scale=4.0 if name == "cheap" else 400.0)
        model.save(folder / f"{name}.keras")
        for version in range(versions):
            metadata = {"labels": 10 * (version + 1)}
            publish(folder / f"{name}.keras", repository, name, metadata=metadata)
    for name, width in (("sigmoid", 1), ("sigmoid-dear", 1_000)):
        p = keras.Sequential(
            [
                keras.Input((1,), name="x"),
                keras.layers.Dense(width, kernel_initializer="ones", name="hidden"),
                keras.layers.Dense(
                    1,
                    activation="sigmoid",
                    kernel_initializer=keras.initializers.Constant(9 / width),
                    name="p",
                ),
            ]
        )
        p.save(folder / f"{name}.keras")
        publish(folder / f"{name}.keras", repository, name)
    x = np.linspace(-1, 1, 400, dtype=np.float32).reshape(-1, 1)
    np.savez(folder / "data.npz", x=x, label=(x[:, 0] > 0).astype(int))
    (folder / "strata.yaml").write_text(_FILE)
    return folder


def _model(keras, width, scale):
    """Return a model that tells negative from positive, the surer the larger the scale."""
    x = keras.Input((1,), name="x")
    hidden = keras.layers.Dense(width, kernel_initializer="ones", name="hidden")(x)
    hidden = keras.layers.Dense(width, kernel_initializer="ones", name="more")(hidden)
    logit = keras.layers.Dense(
        1, kernel_initializer=keras.initializers.Constant(scale / width**2), name="logit"
    )(hidden)
    p = keras.layers.Activation("sigmoid")(logit)
    both = keras.layers.Concatenate(name="p")([keras.layers.Rescaling(-1, 1)(p), p])
    return keras.Model(x, both)


def _strata(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "serve", *arguments, "-c", str(folder / "strata.yaml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    return done.returncode, done.stdout, done.stderr


def test_compare_prints_a_table_and_leaves_figures_and_pictures(folder, tmp_path):
    data, output = str(folder / "data.npz"), str(tmp_path / "out")
    names = ("layered", "dear@all")
    code, printed, said = _strata(folder, "compare", *names, "--data", data, "--output", output)
    assert code == 0, said
    table = [line.split()[0] for line in printed.splitlines() if "%" in line]
    assert table == ["layered", "dear@1", "dear@2"]
    assert max(map(len, printed.splitlines()[:5])) <= 80
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["compared"]
    assert [row["accuracy"] for row in rows] == pytest.approx([1, 1, 1], abs=0.01)
    dear = rows[1]
    assert dear["parameters"] == 2 * 2_000 + 2_000 * 2_001 + 2_001
    assert dear["flops"] == pytest.approx(2 * 2_000 * 2_002, rel=0.01)
    assert rows[0]["flops"] < dear["flops"]
    assert dear["cost_per_million_requests"] == pytest.approx(1e6 / dear["rows_per_s"])
    assert [row["engines"] for row in rows] == [["tensorflow"]] * 3  # nothing else was tried
    assert rows[0]["added_mb"] is None
    assert dear["added_mb"] < dear["memory_mb"] / 2  # the library is there already
    assert "dear@1: in a pool it would add " in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.json",
        "compare.png",
        "labels.png",
    }


def test_a_sigmoid_classifier_and_a_cascade_of_two_are_as_right_as_they_are(folder, tmp_path):
    data, output = str(folder / "data.npz"), str(tmp_path / "out")
    options = ("--data", data, "--output", output)
    code, printed, said = _strata(folder, "compare", "sigmoid", "halves", *options)
    assert code == 0, said
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())["compared"]
    assert [row["accuracy"] for row in rows] == [1.0, 1.0]
    assert {row["measure"] for row in rows} == {"binary: 'p' > 0.5 is yes (probabilities)"}
    assert "sigmoid, halves: binary: 'p' > 0.5 is yes (probabilities)" in printed


def test_quantities_are_compared_by_their_errors(folder, tmp_path):
    x = np.linspace(-1, 1, 400, dtype=np.float32).reshape(-1, 1)
    np.savez(tmp_path / "data.npz", x=x, label=1 / (1 + np.exp(-9 * x[:, 0])) + 0.25)
    output = tmp_path / "out"
    options = ("--data", str(tmp_path / "data.npz"), "--output", str(output))
    code, printed, said = _strata(folder, "compare", "sigmoid", *options)
    assert code == 0, said
    (row,) = json.loads((output / "compare.json").read_text())["compared"]
    assert row["accuracy"] is None
    assert row["figures"] == pytest.approx({"MAE": 0.25, "RMSE": 0.25}, abs=1e-3)
    assert "MAE 0.25" in printed


def test_tune_writes_the_cheapest_threshold_that_is_confirmed_and_keeps_comments(folder, tmp_path):
    file = folder / "strata.yaml"
    data, output = str(folder / "data.npz"), str(tmp_path)
    options = ("--data", data, "--output", output)
    code, printed, said = _strata(folder, "tune", "layered", *options, "--min-accuracy", "0.9")
    assert code == 0, said
    assert "on the second half" in printed
    assert (tmp_path / "layered.png").exists()
    written = file.read_text()
    assert written.startswith("# Three models.\n")
    assert "}  # a guess" in written
    assert "margin: 0.5" not in written
    code, _, said = _strata(folder, "tune", "layered", *options, "--max-cost", "0.0000001")
    assert code == 1
    assert "the cheapest cost" in said
    assert file.read_text() == written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune", "layered"], "give either --min-accuracy or --max-cost"),
        (["tune", "dear", "--min-accuracy", "0.5"], "'dear' is no cascade of the file"),
        (["compare", "nobody"], "there is no model or pipeline 'nobody'"),
        (["compare", "dear@9"], "has no version 9"),
        (["compare", "dear"], "does not say what data it was held from"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, arguments, said):
    code, _, stderr = _strata(folder, *arguments)
    assert code == 1
    assert said in stderr
    assert "Traceback" not in stderr


def test_what_other_engines_would_cost_is_told_by_the_verdict_on_a_version(tmp_path):
    repository = Repository(str(tmp_path / "models"), tmp_path / "cache")
    (tmp_path / "models" / "m" / "1").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "models" / "m" / "1" / "model.keras", "w") as file:
        file.writestr("config.json", "{}")
    tree = {"repository": {"root": repository.root, "cache_dir": str(tmp_path / "cache")}}
    config = Config.model_validate({**tree, "prices": {"cpu_hour": 3600}})
    assert _by_engine(config, Reference("m")) == {}
    write_engines(tmp_path / "made")
    content = repository.content("m", 1)
    repository.engines.put(tmp_path / "made", "m", content, here(EngineOptions()))
    costs = {"tensorflow": 1e6 / 200, "openvino": 1e6 / 600}  # at its full batch
    assert _by_engine(config, Reference("m")) == pytest.approx(costs)
    pipeline = {"name": "p", "kind": "sequence", "steps": [{"model": "m"}]}
    config = Config.model_validate({**tree, "pipelines": [pipeline]})
    assert _by_engine(config, Reference("p")) == {}


def test_a_models_pool_is_told_and_what_is_in_none_has_none(tmp_path, monkeypatch):
    figures = Figures(1.0, 100.0, 1.0, 1.0, 3, None, 300.0, None)
    monkeypatch.setattr(comparison, "_in_own_process", lambda task: figures)
    monkeypatch.setattr(comparison, "_by_engine", lambda config, reference: {})
    config = Config.model_validate(
        {
            "models": [{"name": "pooled", "pool": "small"}, {"name": "alone"}],
            "pipelines": [{"name": "both", "kind": "sequence", "steps": [{"model": "alone"}]}],
        }
    )
    names = [Reference(name) for name in ("pooled", "alone", "both", "elsewhere")]
    compared = comparison.compare(config, tmp_path, names, "d", Asked(), lambda part, said: None)
    assert [row.pool for row in compared] == ["small", None, None, None]
    assert compared[0].to_json()["pool"] == "small"


def test_references_name_versions(folder):
    repository = Repository(str(folder / "models"), folder / "cache")
    found = parse_references(["cheap", "dear@all", "dear@2"], repository)
    assert [reference.text for reference in found] == ["cheap", "dear@1", "dear@2", "dear@2"]
    assert found[0] == Reference("cheap")
    with pytest.raises(InvalidRequest, match="after @ comes a version"):
        parse_references(["dear@new"], repository)
    with pytest.raises(RepositoryError, match="no model or pipeline 'no'"):
        parse_references(["no@all"], repository)


def test_cost_is_time_by_the_price_of_what_a_replica_reserves():
    options = RayActorOptions(num_cpus=2, num_gpus=0.5)
    prices = Prices(cpu_hour=1, gpu_hour=10)
    assert cost_of_a_million(0.0036, options, prices) == pytest.approx(7)
