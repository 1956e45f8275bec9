"""What every layer says of every row, also of those that would not reach it."""

import numpy as np
import pytest

from serve.config.schema import Model
from serve.config.sections import Prices
from serve.errors import ConfigError
from serve.evaluation.cascade_layers import layer_predictions
from serve.evaluation.subject import Subject
from serve.pipelines.member import ColocatedMember
from serve.types import TensorSpec
from tests.unit.evaluation.conftest import dataset
from tests.unit.pipelines.fakes import Fake, assemble, sure_of

ROWS = np.arange(6, dtype=np.float32)
LABELS = np.zeros(6, int)


def _subject(tree, *members):
    engine = assemble({"kind": "cascade", **tree}, *members)
    served = Model(name="p")
    return Subject(served, ColocatedMember("p", engine, range(1, 65)), (), {}, engine.kind)


def _two(exit_rule):
    return {"layers": [{"model": "small", "exit": exit_rule}, {"model": "large"}]}


def test_every_layer_is_computed_on_all_rows():
    small, large = Fake("small", sure_of(0, 1)), Fake("large", sure_of(*ROWS, tag=2))
    subject = _subject(_two({"max_probability": 0.9}), small, large)
    first, last = layer_predictions(subject, Prices(), dataset(x=ROWS, labels=LABELS))
    assert set(small.rows) == set(large.rows) == set(ROWS.tolist())
    assert first.scores == pytest.approx([1, 1, 1 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert (first.label, first.rule, first.threshold) == ("small", "max_probability", 0.9)
    assert last.predictions.tolist() == [2] * 6
    assert last.scores is None
    assert first.cost > 0


def test_chosen_rows_keep_their_scores_and_predictions():
    members = Fake("small", sure_of(0, 1, tag=1)), Fake("large", sure_of(*ROWS))
    subject = _subject(_two({"margin": 0.5}), *members)
    first, last = layer_predictions(subject, Prices(), dataset(x=ROWS, labels=LABELS))
    assert first.rows(np.array([1, 5])).scores == pytest.approx([1, 0])
    assert last.rows(np.array([1])).predictions.tolist() == [0]


def test_a_layer_that_only_abstains_needs_no_prediction():
    score = Fake("vae", lambda x: x, outputs=(TensorSpec("error", "FP32", (-1,)),))
    tree = {
        "layers": [{"model": "vae", "exit": {"score_above": 3}}, {"model": "large"}],
    }
    subject = _subject(tree, score, Fake("large", sure_of(*ROWS)))
    first, _ = layer_predictions(subject, Prices(), dataset(x=ROWS, labels=LABELS))
    assert first.predictions is None
    assert first.scores.tolist() == ROWS.tolist()


def test_a_layer_whose_outputs_are_no_prediction_is_refused_by_name():
    numbers = (TensorSpec("y", "FP32", (-1,)),)
    members = [Fake(name, lambda x: x, outputs=numbers) for name in ("small", "large")]
    subject = _subject(_two({"score_at_most": 3}), *members)
    with pytest.raises(ConfigError, match=r"layer 'small' has no output .* \(it has: y\)"):
        layer_predictions(subject, Prices(), dataset(x=ROWS, labels=LABELS))


def test_inputs_that_the_data_lacks_are_named():
    members = Fake("small", sure_of(0)), Fake("large", sure_of(0))
    subject = _subject(_two({"margin": 0.5}), *members)
    with pytest.raises(ConfigError, match="'p' takes the inputs x; the data has image"):
        layer_predictions(subject, Prices(), dataset(image=np.zeros(6), labels=LABELS))
