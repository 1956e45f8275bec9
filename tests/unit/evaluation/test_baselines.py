"""From rows to a baseline, and real digits told from changed ones by it."""

from functools import partial

import numpy as np
import pytest

from serve.drift.baseline import parse_baseline
from serve.drift.monitor import Monitor
from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.errors import ConfigError
from serve.evaluation.baselines import Examples, make_baseline
from serve.evaluation.measure import compute_all
from serve.learn.data import digits
from serve.learn.recipes import train
from serve.types import Signature, TensorSpec


class Summing:
    """An engine that adds up a row and says what it is called."""

    default_signature = "s"

    def __init__(self, shape=(-1, 3), batched=True):
        inputs = (TensorSpec("x", "FP32", shape),)
        outputs = (
            TensorSpec("sum", "FP32", (-1,)),
            TensorSpec("name", "BYTES", (-1,)),
            TensorSpec("none", "FP32", (-1, 0)),
        )
        self.signatures = {"s": Signature("s", inputs, outputs, batched)}

    def infer(self, signature, inputs):
        total = inputs["x"].sum(axis=tuple(range(1, inputs["x"].ndim)))
        names = np.array([b"odd" if value % 2 else b"even" for value in total], object)
        return {"sum": total, "name": names, "none": np.zeros((len(total), 0), np.float32)}


def _x(rows, *shape):
    values = np.random.default_rng(0).integers(0, 9, (rows, *shape))
    return Examples({"x": values.astype(np.float32), "label": np.zeros(rows)}, "data.npz")


def test_a_tensor_is_taken_for_what_its_rows_look_like():
    baseline = make_baseline(Summing(), _x(600, 3), "m")
    assert (baseline.signature, baseline.rows) == ("s", 600)
    assert baseline.inputs["x"].kind == "features"
    assert {name: t.kind for name, t in baseline.outputs.items()} == {
        "sum": "features",
        "name": "categories",
    }
    assert make_baseline(Summing((-1, 20)), _x(600, 20), "m").inputs["x"].kind == "summary"
    assert make_baseline(Summing((-1, -1)), _x(600, 3), "m").inputs["x"].kind == "summary"
    assert make_baseline(Summing(), _x(20_000, 3), "m").rows == 10_000


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (Examples({"z": np.zeros(600)}, "data.npz"), "data.npz: 'm' takes the inputs x; the data"),
        (
            Examples({"x": np.zeros((600, 3))}, "data.npz"),
            r"data.npz: input 'x' is FP64 \[600, 3\]",
        ),
        (_x(600, 4), r"data.npz: input 'x' is FP32 \[600, 4\], model 'm' expects"),
        (_x(499, 3), "has 499 rows; a baseline needs 500"),
        (Examples(_x(600, 3).inputs, "d", "name"), r"no output 'name' .*such outputs: sum"),
    ],
)
def test_examples_that_do_not_fit_the_model_are_refused(examples, said):
    with pytest.raises(ConfigError, match=said):
        make_baseline(Summing(), examples, "m")


def test_a_model_without_rows_has_no_baseline():
    with pytest.raises(ConfigError, match="does not compute row by row"):
        make_baseline(Summing(batched=False), _x(600, 3), "m")


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A digits model, and its baseline from every second held-out digit."""
    folder = tmp_path_factory.mktemp("digits") / "digits"
    engine = load(train("digits", folder, 2, lambda done, text: None).folder, EngineOptions())
    examples = Examples({"image": digits().x_test[0::2]}, "held-out")
    return engine, parse_baseline(
        make_baseline(engine, examples, "digits").to_json(), engine.signatures
    )


def _scores(watched, images):
    engine, baseline = watched
    monitor = Monitor(baseline)
    answers = compute_all(partial(engine.infer, "serving_default"), {"image": images})
    for start in range(0, len(images), 64):
        rows = slice(start, start + 64)
        outputs = {"probabilities": answers["probabilities"][rows]}
        monitor.look("serving_default", [({"image": images[rows]}, outputs)])
    return monitor.scores()


def test_other_digits_of_the_same_kind_do_not_drift(watched):
    scores = _scores(watched, digits().x_test[1::2])
    assert set(scores) == {"input.image", "output.probabilities"}
    assert max(scores.values()) < 0.1


@pytest.mark.parametrize(
    ("change", "seen_at"),
    [
        (lambda images: 1 - images, "input.image"),
        (lambda images: images * 255, "input.image"),
        (lambda images: np.roll(images, 6, axis=2), "output.probabilities"),
        (lambda images: np.full_like(images, np.nan), "input.image"),
    ],
    ids=["inverted", "not scaled", "moved", "nan"],
)
def test_changed_digits_drift(watched, change, seen_at):
    assert _scores(watched, change(digits().x_test[1::2]))[seen_at] > 0.25
