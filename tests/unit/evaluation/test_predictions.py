import numpy as np

from serve.evaluation.predictions import is_distribution, own_outputs


def test_what_pipelines_add_is_not_the_models_own():
    marks = {"layer": np.array([b"a"], object), "degraded": np.zeros(1, bool)}
    own = {"p": np.zeros((1, 2)), "member": np.zeros(1)}
    assert own_outputs({**own, **marks}).keys() == own.keys()


def test_probabilities_of_classes_sum_to_one_where_they_are_there():
    assert is_distribution(np.array([[0.2, 0.8], [np.nan, np.nan]]))
    assert not is_distribution(np.array([[0.2, 0.9]]))
    assert not is_distribution(np.array([[1.5, -0.5]]))
    assert not is_distribution(np.array([[1.0]]))
    assert not is_distribution(np.array([[1, 0]]))
