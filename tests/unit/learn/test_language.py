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
