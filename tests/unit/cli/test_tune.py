"""`strata tune`: thresholds that both halves of the data agree on are written, and no others."""

import numpy as np
import pytest

from serve.evaluation import cascade_layers
from serve.repository.publish import publish
from serve.repository.repository import Repository

_FILE = """\
repository: {root: models}
models: [{name: dear}]
pipelines:
  - name: layered
    kind: cascade
    layers:
      - model: cheap
        exit: {max_probability: 0.5}  # a guess
      - model: dear
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A repository with a cheap model that is wrong where it is unsure, and two dear ones."""
    import keras

    folder = tmp_path_factory.mktemp("tune")
    repository = Repository(str(folder / "models"), folder / "cache")
    sides = np.array([[-5.0, 5.0]])
    for name, width, weights, bias in (
        ("cheap", 1, sides, 0.5),
        ("dear", 2_000, sides, 0.0),
        ("wrong", 2_000, -sides, 0.0),
    ):
        _model(keras, width, weights, bias).save(folder / f"{name}.keras")
        publish(folder / f"{name}.keras", repository, name)
    return folder


def _model(keras, width, weights, bias):
    """Return a model that multiplies x with weights, through layers that are wide for nothing."""
    mean = keras.initializers.Constant(1 / width)
    layer = keras.layers.Dense(2, activation="softmax", name="p")
    wide = [keras.layers.Dense(width, kernel_initializer=each) for each in ("ones", mean)]
    model = keras.Sequential([keras.Input((1,), name="x"), *wide, layer])
    layer.set_weights([np.tile(weights, (width, 1)) / width, np.array([-bias, bias])])
    return model


@pytest.fixture
def file(models):
    """The strata.yaml of a cascade, as it was before it is tuned."""
    path = models / "strata.yaml"
    path.write_text(_FILE)
    return path


_CLASSES = (np.linspace(-1, 1, 200) > 0).astype(int)


@pytest.fixture
def tune(strata, file, tmp_path, monkeypatch):
    """Tune the cascade on -1 to 1, given the classes of these rows in each half of the data."""
    rows = len(_CLASSES)
    monkeypatch.setattr("serve.cli.tune._halves", lambda _: np.split(np.arange(2 * rows), 2))

    def run(first, second, *options):
        x = np.tile(np.linspace(-1, 1, rows, dtype=np.float32), 2).reshape(-1, 1)
        np.savez(tmp_path / "data.npz", x=x, label=np.concatenate([first, second]))
        data = ("--data", tmp_path / "data.npz", "--output", tmp_path / "out")
        return strata("tune", "layered", *data, *options, "-c", file)

    return run


def test_the_threshold_is_as_high_as_the_accuracy_needs_and_is_written(tune, file, tmp_path):
    code, printed, _ = tune(_CLASSES, _CLASSES, "--min-accuracy", "0.99")
    assert code == 0
    _, _, *rows = printed.splitlines()[:5]
    assert [row.rsplit("  ")[0].rstrip() for row in rows] == [
        "chosen on the first half",
        "on the second half",
        "the last layer alone",
    ]
    threshold = float(printed.split("max_probability ")[1].split()[0])
    assert 0.6 < threshold < 0.75, "cheap is wrong in -0.1 to 0, where it says up to 0.73"
    assert f"exit: {{max_probability: {threshold:g}}}  # a guess" in file.read_text()
    assert (tmp_path / "out" / "layered.png").stat().st_size > 0


def test_the_file_stays_as_it_is_if_told_so(tune, file):
    code, printed, _ = tune(_CLASSES, _CLASSES, "--min-accuracy", "0.99", "--no-write")
    assert code == 0
    assert "layer cheap: max_probability " in printed
    assert "(was 0.5)" in printed
    assert "written to" not in printed
    assert file.read_text() == _FILE


def test_what_the_second_half_does_not_confirm_is_not_written(tune, file):
    code, _, error = tune(_CLASSES, 1 - _CLASSES, "--min-accuracy", "0.9")
    assert code == 1
    assert "not written: on the second half the accuracy is 5.00%, below 90.00%" in error
    assert file.read_text() == _FILE


_ALONE = """\
repository: {root: models}
models: [{name: dear}]
pipelines:
  - name: layered
    kind: cascade
    layers:
      - model: wrong
        exit: {max_probability: 0.5}  # a guess
      - model: dear
"""


@pytest.mark.parametrize("wish", [("--min-accuracy", "0.7"), ("--max-cost", "1000")])
def test_a_last_layer_that_is_better_and_cheaper_is_said_and_nothing_is_written(
    tune, file, wish, monkeypatch
):
    timed = cascade_layers._timed
    monkeypatch.setattr(cascade_layers, "_timed", lambda *of: (timed(*of)[0], 1e-6))
    file.write_text(_ALONE)
    code, printed, _ = tune(_CLASSES, _CLASSES, *wish)
    assert code == 0
    assert "not written: the last layer alone, dear, has 100.00% at" in printed
    assert "serve it by itself" in printed
    assert file.read_text() == _ALONE


def test_what_is_measured_is_named_and_may_be_asked_for(tune):
    _, printed, _ = tune(_CLASSES, _CLASSES, "--min-accuracy", "0.9", "--no-write")
    assert "measured as classes: the largest of 'p'" in printed
    code, _, error = tune(_CLASSES, _CLASSES, "--min-accuracy", "0.9", "--measure", "binary")
    assert code == 1
    assert "layer 'cheap': there is no output of one number a row" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["layered"], "give either --min-accuracy or --max-cost"),
        (["layered", "--min-accuracy", "0.5", "--max-cost", "1"], "give either --min-accuracy or"),
        (["dear", "--min-accuracy", "0.5"], "'dear' is no cascade of the file (it has: layered)"),
    ],
)
def test_what_cannot_be_tuned_is_refused(refused, file, arguments, said):
    assert said in refused("tune", *arguments, "-c", file)


def test_an_accuracy_is_a_part_of_one(strata, file):
    code, _, error = strata("tune", "layered", "--min-accuracy", "98.5", "-c", file)
    assert code == 2
    assert "--min-accuracy" in error
