"""What is tried on paper is what the cascade does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.config.schema import Model
from serve.config.sections import Prices
from serve.errors import InvalidRequest
from serve.evaluation.cascade_layers import LayerPredictions, layer_predictions
from serve.evaluation.quality import Asked
from serve.evaluation.subject import Subject
from serve.evaluation.thresholds import Point, candidates, choose, evaluate, last_alone
from serve.pipelines.member import ColocatedMember
from serve.types import TensorSpec
from tests.unit.evaluation.conftest import dataset
from tests.unit.pipelines.fakes import Fake, assemble, infer

_RULES = ("max_probability", "margin", "entropy")


def _probabilities(seed):
    """Return a layer that says something of its own of each of 40 rows."""
    table = np.random.default_rng(seed).dirichlet([0.4] * 3, size=40).astype(np.float32)
    return lambda x: table[x.astype(int)]


def _fakes(seed):
    names = ("small", "middle", "large")
    return [Fake(name, _probabilities(seed + index)) for index, name in enumerate(names)]


def _tree(first, second):
    return {
        "kind": "cascade",
        "layers": [
            {"model": "small", "exit": first},
            {"model": "middle", "exit": second},
            {"model": "large"},
        ],
    }


def _answers(engine, labels, name="p"):
    member = ColocatedMember(name, engine, range(1, 65))
    served = Model(name=name)
    subject = Subject(served, member, (), {}, engine.kind)
    x = np.arange(len(labels), dtype=np.float32)
    return layer_predictions(subject, Prices(), dataset(x=x, labels=labels), Asked())[0]


@settings(max_examples=30)
@given(
    st.sampled_from(_RULES),
    st.sampled_from(_RULES),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 1000),
)
def test_thresholds_on_paper_give_what_the_cascade_gives(first, second, low, high, seed):
    labels = np.random.default_rng(seed).integers(0, 3, size=40)
    fakes = [
        Fake(label, _probabilities(seed + i))
        for i, label in enumerate(("small", "middle", "large"))
    ]
    engine = assemble(_tree({first: low}, {second: high}), *fakes)
    layers = _answers(engine, labels)
    point = evaluate(layers, (low, high))
    answer = infer(engine, np.arange(40))
    assert point.accuracy == pytest.approx(np.mean(answer["p"].argmax(axis=1) == labels))
    shares = [np.mean(answer["layer"] == name) for name in (b"small", b"middle", b"large")]
    assert point.exits == pytest.approx(shares)
    costs = [layer.cost for layer in layers]
    reached = [1, 1 - shares[0], shares[2]]
    assert point.cost == pytest.approx(np.dot(costs, reached))


def test_a_layer_that_abstains_keeps_its_threshold_and_its_rows_count_as_wrong():
    score = TensorSpec("error", "FP32", (-1,))
    vae = Fake("vae", lambda x: x, outputs=(score,))
    small, large = (
        Fake(name, lambda x: np.eye(3, dtype=np.float32)[np.zeros(len(x), int)])
        for name in ("small", "large")
    )
    tree = {
        "kind": "cascade",
        "layers": [
            {"model": "vae", "exit": {"score_above": 7}},
            {"model": "small", "exit": {"max_probability": 0.5}},
            {"model": "large"},
        ],
    }
    layers = _answers(assemble(tree, vae, small, large), np.zeros(10, int))
    assert {len(each) for each in candidates(layers)} == {1}
    point = evaluate(layers, (0.5,))
    assert point.exits == (0.2, 0.8, 0.0)
    assert point.accuracy == 0.8


def test_values_to_try_are_those_of_the_rows_and_one_that_nobody_reaches():
    scores = np.array([0.123456, 0.9, 1.0])
    layer = LayerPredictions("a", "max_probability", 0.5, scores, np.zeros(3), 1.0)
    assert candidates([layer]) == [(0.1235,), (0.9,), (1.0,)]


def test_a_cascade_without_a_rule_to_tune_is_refused():
    layer = LayerPredictions("a", "score_above", 0.5, np.zeros(3), None, 1.0)
    with pytest.raises(InvalidRequest, match="no layer has a rule that can be tuned"):
        candidates([layer])


_POINTS = [
    Point((0.5,), 0.90, 1.0, ()),
    Point((0.7,), 0.95, 2.0, ()),
    Point((0.9,), 0.95, 3.0, ()),
    Point((1.0,), 0.97, 5.0, ()),
]


def test_the_cheapest_that_is_accurate_enough_is_chosen():
    assert choose(_POINTS, 0.95, None).thresholds == (0.7,)
    with pytest.raises(
        InvalidRequest, match=r"nor the last layer alone, reach .*; the best is 97\.00%"
    ):
        choose(_POINTS, 0.98, None)


def test_the_best_that_is_cheap_enough_is_chosen():
    assert choose(_POINTS, None, 3.5).thresholds == (0.7,)
    with pytest.raises(InvalidRequest, match="the cheapest cost 1"):
        choose(_POINTS, None, 0.5)


def _layer(label, right, cost, rule=None, scores=None):
    return LayerPredictions(label, rule, 0.5, scores, np.array(right), cost)


def test_the_last_layer_alone_is_a_candidate_and_wins_where_it_is_better_and_cheaper():
    dear = _layer("dear", [False] * 10, 5.0, "max_probability", np.linspace(0, 1, 10))
    layers = [dear, _layer("good", [True] * 9 + [False], 1.0)]
    alone = last_alone(layers)
    assert (alone.thresholds, alone.accuracy, alone.cost) == ((), 0.9, 1.0)
    assert alone.exits == (0.0, 1.0)
    points = [*(evaluate(layers, each) for each in candidates(layers)), alone]
    assert choose(points, 0.5, None) is alone
    assert choose(points, None, 100.0) is alone


def test_the_last_layer_alone_loses_to_thresholds_that_are_cheaper_and_good_enough():
    cheap = _layer("cheap", [True] * 10, 1.0, "max_probability", np.full(10, 0.9))
    layers = [cheap, _layer("dear", [True] * 10, 50.0)]
    points = [*(evaluate(layers, each) for each in candidates(layers)), last_alone(layers)]
    assert choose(points, 0.95, None).thresholds == (0.9,)
