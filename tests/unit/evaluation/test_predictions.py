import numpy as np
import pytest

from serve.evaluation.predictions import predicted

_PROBABILITIES = np.array([[0.2, 0.8], [0.9, 0.1]], np.float32)
_NUMBERS = np.array([1, 0])
_TEXTS = np.array([b"de", b"en"], object)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"p": _PROBABILITIES}, [1, 0]),
        ({"p": _PROBABILITIES, "latent": np.array([[5.0, 3.0], [1.0, 7.0]])}, [1, 0]),
        ({"logits": np.array([[-3.0, 2.0], [9.0, 1.0]])}, [1, 0]),
        ({"class": np.array([1, 1]), "share": np.array([0.5, 1.0])}, [1, 1]),
        ({"p": np.array([[0.3, 0.7], [np.nan, np.nan]])}, [1, -1]),
    ],
)
def test_a_class_is_found_in_what_models_say(outputs, expected):
    assert predicted(outputs, _NUMBERS).tolist() == expected


def test_texts_are_compared_with_the_text_that_is_no_mark_of_a_pipeline():
    outputs = {"label": _TEXTS, "probabilities": _PROBABILITIES, "layer": _TEXTS[::-1]}
    assert predicted(outputs, _TEXTS).tolist() == [b"de", b"en"]


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ({"image": np.ones((2, 4, 4, 1)), "error": np.ones(2)}, _NUMBERS),
        ({"latent": np.array([[5.0, 3.0], [1.0, 7.0]]), "error": np.ones(2)}, _NUMBERS),
        ({"p": _PROBABILITIES}, _TEXTS),
    ],
)
def test_a_model_that_names_no_class_has_no_prediction(outputs, labels):
    assert predicted(outputs, labels) is None
