"""Each measure against its definition, and how it is told from outputs and labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import ConfigError
from serve.evaluation.quality import Asked, NothingToCompare, tell

_PROBABILITIES = np.array([[0.2, 0.8], [0.9, 0.1]], np.float32)
_NUMBERS = np.array([1, 0])
_TEXTS = np.array([b"de", b"en"], object)
_MARKS = {"layer": _TEXTS, "degraded": np.zeros(2, bool), "abstained": np.zeros(2, bool)}


def _figures(outputs, labels, **asked):
    told = tell(Asked(**asked), outputs, labels)
    return told, told.figures(outputs, labels)


@pytest.mark.parametrize(
    "outputs",
    [
        {"p": _PROBABILITIES},
        {"p": _PROBABILITIES, **_MARKS},
        {"p": _PROBABILITIES, "latent": np.array([[5.0, 3.0], [1.0, 7.0]])},
        {"logits": np.array([[-3.0, 2.0], [9.0, 1.0]])},
        {"logits": np.array([[-3.0, 2.0], [9.0, 1.0]]), **_MARKS},
        {"class": np.array([1, 0]), "share": np.array([0.5, 1.0])},
        {"class": np.array([[1], [0]])},
    ],
)
def test_classes_are_the_largest_column_or_a_number(outputs):
    told, figures = _figures(outputs, _NUMBERS)
    assert told.kind == "classes"
    assert figures == {"accuracy": 1.0}
    one_hot = np.array([[0, 1], [1, 0]])
    assert _figures(outputs, one_hot)[1] == {"accuracy": 1.0}


def test_texts_are_compared_with_the_text_that_is_no_mark_of_a_pipeline():
    outputs = {"label": _TEXTS, "probabilities": _PROBABILITIES, "layer": _TEXTS[::-1]}
    assert _figures(outputs, _TEXTS)[1] == {"accuracy": 1.0}


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [-1, 1, 1, -1], [0.0, 1.0, 1.0, 0.0]])
@pytest.mark.parametrize(
    ("values", "decision"),
    [
        ([0.1, 0.9, 0.51, 0.49], "'p' > 0.5 is yes (probabilities)"),
        ([-3.0, 4.0, 0.2, -0.2], "'p' > 0 is yes (logits)"),
    ],
)
def test_one_column_is_binary_with_the_threshold_that_its_values_tell(
    shape, labels, values, decision
):
    told, figures = _figures({"p": np.array(values).reshape(shape)}, np.array(labels))
    assert told.text == f"binary: {decision}"
    assert figures == {"accuracy": 1.0}


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_binary_accuracy_is_that_of_keras(rows):
    values, labels = (np.array(column) for column in zip(*rows, strict=True))
    expected = np.mean([(p > 0.5) == label for p, label in rows])
    assert _figures({"p": values}, labels)[1]["accuracy"] == pytest.approx(expected)


def test_who_asks_says_above_which_value_it_is_yes():
    outputs = {"p": np.array([0.1, 0.3, 0.9])}
    assert _figures(outputs, np.array([0, 1, 1]), yes_above=0.2)[1] == {"accuracy": 1.0}
    assert _figures(outputs, np.array([0, 1, 1]))[1]["accuracy"] == pytest.approx(2 / 3)


def test_several_labels_count_by_row_by_label_and_by_f1():
    said = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.6]])
    labels = np.array([[1, 0, 1], [0, 1, 0]])
    told, figures = _figures({"p": said}, labels)
    assert told.kind == "labels"
    assert figures == pytest.approx({"exact match": 0.5, "label accuracy": 5 / 6, "F1": 6 / 7})
    assert told.right({"p": said}, labels).tolist() == [True, False]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_quantities_are_measured_by_their_errors(shape):
    outputs = {"y": np.array([1.0, 2.5, 4.0]).reshape(shape)}
    told, figures = _figures(outputs, np.array([1.0, 2.0, 5.0]))
    assert (told.kind, told.figure) == ("regression", "MAE")
    assert figures == pytest.approx({"MAE": 0.5, "RMSE": np.sqrt(1.25 / 3)})


def test_errors_are_of_rows_that_have_a_number_and_say_how_many_these_are():
    outputs = {"y": np.array([1.0, np.nan])}
    _, figures = _figures(outputs, np.array([1.5, 2.0]))
    assert figures == {"MAE": 0.5, "RMSE": 0.5, "answered": 0.5}


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ({"p": np.array([[0.3, 0.7], [np.nan, np.nan]])}, [1, 0]),
        ({"p": np.array([[0.3, 0.7], [np.nan, np.nan]])}, [1, -1]),
        ({"p": np.array([0.7, np.nan])}, [1, 0]),
        ({"p": np.array([[0.7, 0.1], [0.9, np.nan]])}, [[1, 0], [1, 0]]),
    ],
)
def test_a_row_that_nobody_answered_is_wrong(outputs, labels):
    labels = np.array(labels)
    kind = "labels" if labels.ndim > 1 else "auto"
    assert tell(Asked(kind), outputs, labels).right(outputs, labels).tolist() == [True, False]


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ({"image": np.ones((2, 4, 4, 1)), "error": np.ones(2)}, _NUMBERS),
        ({"image": np.ones((2, 4, 4, 1)), "error": np.ones(2)}, np.array([3, 8])),
        ({"latent": np.array([[5.0, 3.0], [1.0, 7.0]]), "error": np.ones(2)}, _NUMBERS),
        ({"a": _PROBABILITIES, "b": _PROBABILITIES}, _NUMBERS),
        ({"p": _PROBABILITIES}, _TEXTS),
    ],
)
def test_where_it_cannot_be_told_nothing_is_compared(outputs, labels):
    with pytest.raises(NothingToCompare, match=next(iter(outputs))):
        tell(Asked(), outputs, labels)


def test_who_asks_chooses_one_of_several_outputs():
    outputs = {"a": _PROBABILITIES, "b": 1 - _PROBABILITIES, "score": np.array([0.9, 0.2])}
    assert _figures(outputs, _NUMBERS, tensor="b")[1] == {"accuracy": 0.0}
    assert _figures(outputs, _NUMBERS, kind="binary")[1] == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("asked", "outputs", "labels", "said"),
    [
        (Asked(tensor="q"), {"p": _PROBABILITIES}, _NUMBERS, "no output 'q' .there are: p"),
        (
            Asked("binary"),
            {"p": _PROBABILITIES},
            _NUMBERS,
            r"no output of one number .*p \[-1, 2\]",
        ),
        (Asked("binary"), {"p": np.ones(2)}, np.array([3, 4]), "labels of 0 and 1"),
        (Asked("labels"), {"p": np.ones((2, 2))}, _NUMBERS, r"\[rows, labels\]"),
        (Asked("classes"), {"p": np.ones((2, 1))}, _NUMBERS, r"no output \[-1, classes\]"),
        (Asked("regression"), {"label": _TEXTS}, _TEXTS, "labels of text name classes"),
        (Asked(), {"p": np.ones(2)}, np.array([0.5, np.nan]), "a label is NaN"),
        (Asked(), {"p": _PROBABILITIES}, np.array([1, 2]), "labels count from 1 to 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_there_is(asked, outputs, labels, said):
    with pytest.raises(ConfigError, match=said):
        tell(asked, outputs, labels)
