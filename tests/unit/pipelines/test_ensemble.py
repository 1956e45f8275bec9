import numpy as np
import pytest

from serve.errors import ConfigError
from tests.unit.pipelines.fakes import Fake, always, assemble, infer, number


def _ensemble(combine, *members):
    tree = {
        "kind": "ensemble",
        "combine": combine,
        "members": [{"model": m.label} for m in members],
    }
    return assemble(tree, *members)


def test_an_ensemble_means_votes_or_collects():
    a, b, c = always("a", 0), always("b", 1), always("c", 1)
    mean = infer(_ensemble("mean", a, b, c), [5])
    assert mean["p"].dtype == np.float32
    np.testing.assert_allclose(mean["p"], [[1 / 3, 2 / 3, 0]], atol=1e-6)
    vote = infer(_ensemble("vote", a, b, c), [5, 6])
    assert vote["class"].tolist() == [1, 1]
    np.testing.assert_allclose(vote["share"], 2 / 3, atol=1e-6)
    assert set(infer(_ensemble("collect", a, b), [5])) == {"a.p", "b.p"}


def test_equal_votes_are_decided_by_the_mean():
    sure = Fake("sure", lambda x: np.tile(np.array([[0, 0, 1.0]], np.float32), (len(x), 1)))
    unsure = Fake("unsure", lambda x: np.tile(np.array([[0.4, 0.3, 0.3]], np.float32), (len(x), 1)))
    assert infer(_ensemble("vote", unsure, sure), [1])["class"].tolist() == [2]


def test_members_of_an_ensemble_must_answer_alike():
    with pytest.raises(ConfigError, match=r"members\[1\]: 'b' answers 'y'"):
        _ensemble("mean", always("a", 0), number("b", lambda x: x))
