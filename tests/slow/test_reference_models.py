"""The reference models reach what they promise; minutes of training, so `scripts/test --slow`."""

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.learn import data as learn_data
from serve.learn.recipes import train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "least"),
    [("digits", 0.96), ("digits-small", 0.96), ("digits-large", 0.985), ("digits-vae", 0.90)],
)
def test_a_model_of_digits_is_as_good_as_promised(name, least, tmp_path):
    trained = train(name, tmp_path / name, None, lambda done, text: None)
    assert trained.held_out_accuracy >= least


def test_the_language_of_four_unseen_words_is_told(tmp_path):
    trained = train("language", tmp_path / "language", None, lambda done, text: None)
    text, languages = learn_data.unseen_phrases()
    answer = load(trained.folder, EngineOptions()).infer("serving_default", {"text": text})
    codes = np.array([code.encode() for code in learn_data.LANGUAGES], object)
    assert np.mean(answer["label"] == codes[languages]) >= 0.90


def test_layers_learn_more_than_a_whole_from_few_labels(tmp_path):
    trained = train("digits-layerwise", tmp_path / "l", None, lambda done, text: None)
    accuracy = {(m.name, m.version): m.metadata["held_out_accuracy"] for m in trained.made}
    assert accuracy["digits-layerwise", 100] > accuracy["digits-end-to-end", 100]
    assert accuracy["digits-end-to-end", 4000] > 0.95
