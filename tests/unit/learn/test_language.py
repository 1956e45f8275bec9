import numpy as np
import pytest

from serve.learn import data as learn_data
from serve.learn.recipes import train
from tests.unit.learn.conftest import ends, loaded, quietly


@pytest.fixture(scope="module")
def language():
    from serve.learn import language

    return language


def _read(language, *texts):
    return language.characters(list(texts)).numpy()


def test_a_text_is_read_as_its_lower_case_characters_with_nothing_after(language):
    (row,) = _read(language, "Über Ёлка".encode())
    assert row.dtype == np.int32
    assert row.tolist() == [ord(letter) for letter in "über ёлка"] + [0] * (64 - 9)


def test_a_text_is_read_up_to_64_characters(language):
    longest, longer = _read(language, b"x" * 64, b"x" * 64 + b"yz")
    assert longest.tolist() == longer.tolist() == [ord("x")] * 64


def test_letters_of_other_alphabets_share_one_place(language):
    rows = _read(language, "漢".encode(), "ก".encode(), "я".encode())
    assert rows[0].tolist() == rows[1].tolist()
    assert rows[:, 0].tolist() == [0x52F, 0x52F, ord("я")]


def test_bytes_that_are_no_text_are_read_all_the_same(language):
    rows = _read(language, b"\xff\xfe", b"")
    assert rows.shape == (2, 64)
    assert rows[1].tolist() == [0] * 64


def test_the_network_goes_from_characters_to_the_probabilities_of_the_languages(language):
    assert ends(language.network()) == (
        [("characters", (None, 64), "int32")],
        [("probabilities", (None, len(learn_data.LANGUAGES)), "float32")],
    )


def test_phrases_are_learned_from_with_others_about_as_long_and_each_once_an_epoch(language):
    random = np.random.default_rng(0)
    sizes = np.concatenate([[1, 16, 17, 28, 29, 40, 41, 64], random.integers(1, 65, 400)])
    read = np.zeros((len(sizes), 64), np.int32)
    for row, size in enumerate(sizes):
        read[row, :size] = row + 1
    rows = language.batches(read, np.arange(len(sizes)))
    epochs = [[(x.numpy(), y.numpy()) for x, y in rows] for _ in range(2)]
    seen = [np.concatenate([y for _, y in epoch]) for epoch in epochs]
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(len(sizes)))
    assert seen[0].tolist() != seen[1].tolist()
    assert {len(epoch) for epoch in epochs} == {len(rows)}
    for x, y in epochs[0]:
        longest = x.shape[1]
        assert longest in (16, 28, 40, 64)
        np.testing.assert_array_equal(x, read[y][:, :longest])
        assert not read[y][:, longest:].any(), "nothing is cut off"
        assert sizes[y].min() > {16: 0, 28: 16, 40: 28, 64: 40}[longest]


def test_the_weights_do_not_depend_on_the_longest_phrase(language):
    any_length, longest = language.network(None), language.network()
    longest.set_weights(any_length.get_weights())
    read = np.zeros((2, 64), np.int32)
    read[:, :5] = [[1, 2, 3, 0, 0], [9, 8, 7, 6, 5]]
    np.testing.assert_allclose(longest(read), any_length(read[:, :9]), atol=1e-6)


def test_the_language_model_takes_strings_and_gives_codes(tmp_path, monkeypatch, language):
    monkeypatch.setattr(language, "PHRASES", 512)
    trained = train("language", tmp_path / "language", 1, quietly)
    engine, inputs, outputs = loaded(trained.folder)
    assert inputs == [("text", "BYTES", (-1,))]
    assert outputs == {"label": (-1,), "probabilities": (-1, 8)}
    text = np.array(["Übung macht den Meister".encode(), b"", b"\xff\xfe", b"x" * 5000], object)
    answer = engine.infer("serving_default", {"text": text})
    codes = np.array([code.encode() for code in learn_data.LANGUAGES], object)
    assert answer["label"].tolist() == codes[answer["probabilities"].argmax(axis=1)].tolist()
