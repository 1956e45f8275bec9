"""What every layer says of every row, also of those that would not reach it."""

import numpy as np
import pytest

from serve.config.schema import Model
from serve.config.sections import Prices
from serve.errors import ConfigError
from serve.evaluation.cascade_layers import layer_predictions
from serve.evaluation.quality import Asked
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


def _layers(subject, labels=LABELS):
    return layer_predictions(subject, Prices(), dataset(x=ROWS, labels=labels), Asked())[0]


def _two(exit_rule):
    return {"layers": [{"model": "small", "exit": exit_rule}, {"model": "large"}]}


def test_every_layer_is_computed_on_all_rows():
    small, large = Fake("small", sure_of(0, 1)), Fake("large", sure_of(*ROWS, tag=2))
    subject = _subject(_two({"max_probability": 0.9}), small, large)
    first, last = _layers(subject)
    assert set(small.rows) == set(large.rows) == set(ROWS.tolist())
    assert first.scores == pytest.approx([1, 1, 1 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert (first.label, first.rule, first.threshold) == ("small", "max_probability", 0.9)
    assert last.right.tolist() == [False] * 6
    assert last.scores is None
    assert first.cost > 0


def test_chosen_rows_keep_their_scores_and_predictions():
    members = Fake("small", sure_of(0, 1, tag=1)), Fake("large", sure_of(*ROWS))
    subject = _subject(_two({"margin": 0.5}), *members)
    first, last = _layers(subject)
    assert first.rows(np.array([1, 5])).scores == pytest.approx([1, 0])
    assert last.rows(np.array([1])).right.tolist() == [True]


def test_a_layer_that_only_abstains_needs_no_prediction():
    score = Fake("vae", lambda x: x, outputs=(TensorSpec("error", "FP32", (-1,)),))
    tree = {
        "layers": [{"model": "vae", "exit": {"score_above": 3}}, {"model": "large"}],
    }
    subject = _subject(tree, score, Fake("large", sure_of(*ROWS)))
    first, _ = _layers(subject)
    assert first.right is None
    assert first.scores.tolist() == ROWS.tolist()


def test_quantities_have_no_accuracy_to_choose_by():
    numbers = (TensorSpec("y", "FP32", (-1,)),)
    members = [Fake(name, lambda x: x, outputs=numbers) for name in ("small", "large")]
    subject = _subject(_two({"score_at_most": 3}), *members)
    labels = np.linspace(0, 1, 6)
    with pytest.raises(ConfigError, match="layer 'small': the labels are quantities"):
        layer_predictions(subject, Prices(), dataset(x=ROWS, labels=labels), Asked())


def test_inputs_that_the_data_lacks_are_named():
    members = Fake("small", sure_of(0)), Fake("large", sure_of(0))
    subject = _subject(_two({"margin": 0.5}), *members)
    with pytest.raises(ConfigError, match="'p' takes the inputs x; the data has image"):
        layer_predictions(subject, Prices(), dataset(image=np.zeros(6), labels=LABELS), Asked())


def _binary(label, values, shape=(-1, 1)):
    size = [-1 if each < 0 else each for each in shape]
    return Fake(
        label,
        lambda x: np.resize(np.float32(values), len(x)).reshape(size),
        outputs=(TensorSpec("p", "FP32", shape),),
    )


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_sigmoid_outputs_are_measured_by_their_halves_and_sure_of_both_sides(shape):
    small = _binary("small", [0.02, 0.97, 0.4, 0.6, 0.01, 0.99], shape)
    large = _binary("large", [0.0, 1.0, 1.0, 0.0, 0.0, 1.0], shape)
    subject = _subject(_two({"binary_probability": 0.9}), small, large)
    labels = np.array([0, 1, 1, 0, 0, 1])
    data = dataset(x=ROWS, labels=labels)
    (first, last), told = layer_predictions(subject, Prices(), data, Asked())
    assert told.text == "binary: 'p' > 0.5 is yes (probabilities)"
    assert first.right.tolist() == [True, True, False, False, True, True]
    assert last.right.all()
    assert first.scores == pytest.approx([0.98, 0.97, 0.6, 0.6, 0.99, 0.99])


def test_layers_that_say_yes_in_different_ways_are_refused():
    small = _binary("small", [-3.0, 2.0, 0.1])
    large = _binary("large", [0.1, 0.9, 0.6])
    subject = _subject(_two({"score_at_most": 0.0}), small, large)
    with pytest.raises(ConfigError, match=r"'small' is measured as .*logits.* 'large' as .*probab"):
        _layers(subject)


def test_a_rule_of_one_class_is_refused_where_several_labels_may_hold():
    members = [
        Fake(name, lambda x: np.full((len(x), 3), 0.9, np.float32)) for name in ("small", "large")
    ]
    subject = _subject(_two({"max_probability": 0.5}), *members)
    labels = np.array([[0, 1, 1]] * 6)
    with pytest.raises(
        ConfigError, match=r"max_probability looks for one class.*binary_probability"
    ):
        _layers(subject, labels)


def test_logits_have_no_probability_to_tune():
    members = [
        Fake(name, lambda x: np.tile(np.float32([-4, 9, 1]), (len(x), 1)))
        for name in ("small", "large")
    ]
    subject = _subject(_two({"max_probability": 0.5}), *members)
    with pytest.raises(
        ConfigError, match="layer 'small', output 'p': max_probability looks at prob"
    ):
        _layers(subject)
