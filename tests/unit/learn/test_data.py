import numpy as np
import pytest

from serve.errors import ConfigError
from serve.learn import data as learn_data
from serve.learn.data import LANGUAGES, phrases


def test_the_split_is_fixed_stratified_and_disjoint():
    split = learn_data.digits()
    assert split.x_train.shape == (4000, 28, 28, 1)
    assert split.x_test.shape == (1000, 28, 28, 1)
    assert np.bincount(split.y_test).tolist() == [100] * 10
    assert split.x_train.dtype == np.float32
    assert split.x_train.min() == 0
    assert split.x_train.max() == 1
    again = learn_data.digits()
    np.testing.assert_array_equal(split.x_test, again.x_test)


def test_no_digit_is_both_learned_and_held_out(all_digits):
    learned = {image.tobytes() for image in all_digits.x_train}
    assert not learned & {image.tobytes() for image in all_digits.x_test}


def test_without_the_data_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(learn_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"strata-serve\[learn\]"):
        learn_data.digits()
    with pytest.raises(ConfigError, match=r"pyspellchecker|spellchecker"):
        learn_data.words()


def test_words_are_the_frequent_ones_of_each_language_and_a_fifth_is_held_out(known_words):
    assert len(known_words.train) == len(known_words.held_out) == len(LANGUAGES)
    for train, held_out in zip(known_words.train, known_words.held_out, strict=True):
        count = len(train) + len(held_out)
        assert 19_000 < count <= 20_000  # a list may be shorter
        assert 0.19 < len(held_out) / count < 0.21
        assert all(word.isalpha() for word in train)
    of_english = known_words.train[LANGUAGES.index("en")]
    assert of_english.index("the") < of_english.index("house") < of_english.index("velvet")


def test_phrases_to_measure_with_hold_no_word_that_was_learned():
    known = learn_data.words()
    learned = {word for words in known.train for word in words}
    text, languages = learn_data.unseen_phrases()
    words = [phrase.decode().split() for phrase in text]
    assert {len(phrase) for phrase in words} == {4}
    assert not learned & {word for phrase in words for word in phrase}
    assert set(languages) == set(range(8))


_WORDS = [["eins", "zwei", "drei", "vier"], ["uno", "dos", "tres", "quatro", "fünf"]]


def test_phrases_are_of_one_language_and_of_the_lengths_that_are_asked_for():
    text, languages = phrases(_WORDS, [1, 3], 200, seed=1)
    split = [phrase.decode().split(" ") for phrase in text]
    assert {len(words) for words in split} == {1, 3}
    for words, language in zip(split, languages, strict=True):
        assert set(words) <= set(_WORDS[language])
    assert {word for words in split for word in words} == {w for words in _WORDS for w in words}


def test_the_same_seed_draws_the_same_phrases():
    first, second, other = (phrases(_WORDS, [2], 50, seed=seed)[0].tolist() for seed in (1, 1, 2))
    assert first == second
    assert first != other


@pytest.mark.parametrize(
    ("exponent", "shares"),
    [(0.0, [1 / 4] * 4), (1.0, [12 / 25, 6 / 25, 4 / 25, 3 / 25]), (1, [0.48, 0.24, 0.16, 0.12])],
)
def test_a_word_of_rank_r_is_drawn_as_often_as_its_weight_says(exponent, shares):
    text, _ = phrases(_WORDS[:1], [1], 20_000, seed=1, rank_exponent=exponent)
    counts = [np.mean(text == word.encode()) for word in _WORDS[0]]
    assert counts == pytest.approx(shares, abs=0.02)


@pytest.mark.parametrize("name", ["digits", "language"])
def test_held_out_data_has_as_many_labels_as_rows(name):
    inputs, labels = learn_data.HELD_OUT[name]()
    (rows,) = inputs.values()
    assert len(rows) == len(labels) >= 1000
