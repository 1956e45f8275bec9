"""The other reference models, trained for a moment: what they leave behind and what they answer."""

import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.evaluation.baselines import Examples, make_baseline
from serve.learn import data as learn_data
from serve.learn.recipes import train


def _quietly(done, text):
    pass


def _signature(folder):
    engine = load(folder, EngineOptions())
    signature = engine.signatures[engine.default_signature]
    inputs = [(spec.name, spec.datatype, spec.shape) for spec in signature.inputs]
    return engine, inputs, {spec.name: spec.shape for spec in signature.outputs}


@pytest.mark.parametrize("name", ["digits-small", "digits-large"])
def test_the_layers_of_the_cascade_have_one_signature(name, tmp_path):
    trained = train(name, tmp_path / name, 1, _quietly)
    _, inputs, outputs = _signature(trained.folder)
    assert inputs == [("image", "FP32", (-1, 28, 28, 1))]
    assert outputs == {"probabilities": (-1, 10)}
    assert {"learning_curves.png", "confusion.png"} <= {p.name for p in trained.folder.iterdir()}


def test_the_small_network_costs_a_twentieth_of_the_large_one_at_most():
    from serve.engines.complexity import complexity_of
    from serve.learn import digits_large, digits_small
    from serve.types import Signature, TensorSpec

    image = TensorSpec("image", "FP32", (-1, 28, 28, 1))
    flops = []
    for recipe in (digits_small, digits_large):
        network = recipe.network()
        call = lambda tensors, network=network: network(tensors["image"], training=False)  # noqa: E731
        flops.append(complexity_of(call, (), Signature("s", (image,), (), True)).flops)
    assert flops[0] * 20 <= flops[1]


def test_the_autoencoder_leaves_itself_and_its_decoder(tmp_path):
    trained = train("digits-vae", tmp_path / "digits-vae", 1, _quietly)
    assert [made.name for made in trained.made] == ["digits-vae", "digits-generate"]
    engine, _, outputs = _signature(trained.folder)
    assert outputs == {"error": (-1,), "latent": (-1, 16), "reconstruction": (-1, 28, 28, 1)}
    pictures = {"learning_curves.png", "samples.png", "latent_space.png"}
    assert pictures <= {path.name for path in trained.folder.iterdir()}
    generate, inputs, _ = _signature(trained.made[1].folder)
    assert inputs == [("latent", "FP32", (-1, 16))]
    answer = engine.infer("serving_default", {"image": learn_data.digits().x_test[:3]})
    drawn = generate.infer("serving_default", {"latent": answer["latent"]})["image"]
    np.testing.assert_allclose(drawn, answer["reconstruction"], atol=1e-5)
    assert (answer["error"] > 0).all()
    for made, tensors in zip(trained.made, (outputs, {"image"}), strict=True):
        inputs = made.inputs or {"image": learn_data.digits().x_test}
        examples = Examples(inputs, "held-out", made.reconstruction_error)
        baseline = make_baseline(load(made.folder, EngineOptions()), examples, made.name)
        assert set(baseline.outputs) == set(tensors)
    assert [made.reconstruction_error for made in trained.made] == ["error", None]


def test_the_language_model_takes_strings_and_gives_codes(tmp_path, monkeypatch):
    from serve.learn import language

    monkeypatch.setattr(language, "PHRASES", 512)
    trained = train("language", tmp_path / "language", 1, _quietly)
    engine, inputs, outputs = _signature(trained.folder)
    assert inputs == [("text", "BYTES", (-1,))]
    assert outputs == {"label": (-1,), "probabilities": (-1, 8)}
    text = np.array(["Übung macht den Meister".encode(), b"", b"\xff\xfe", b"x" * 5000], object)
    answer = engine.infer("serving_default", {"text": text})
    codes = np.array([code.encode() for code in learn_data.LANGUAGES], object)
    assert answer["label"].tolist() == codes[answer["probabilities"].argmax(axis=1)].tolist()


def test_phrases_to_measure_with_hold_no_word_that_was_learned():
    known = learn_data.words()
    learned = {word for words in known.train for word in words}
    text, languages = learn_data.unseen_phrases()
    words = [phrase.decode().split() for phrase in text]
    assert {len(phrase) for phrase in words} == {4}
    assert not learned & {word for phrase in words for word in phrase}
    assert set(languages) == set(range(8))


def test_layer_by_layer_and_end_to_end_are_versions_named_by_their_labels(tmp_path, monkeypatch):
    from serve.learn import digits_layerwise

    monkeypatch.setattr(digits_layerwise, "STEPS", 3)
    seen = []
    trained = train("digits-layerwise", tmp_path / "l", 1, lambda done, text: seen.append(done))
    assert seen == sorted(seen)
    assert {(made.name, made.version) for made in trained.made} == {
        (name, count)
        for name in ("digits-layerwise", "digits-end-to-end")
        for count in (100, 500, 4000)
    }
    assert all(made.metadata["labels"] == made.version for made in trained.made)
    costs = [load(made.folder, EngineOptions()).complexity() for made in trained.made]
    assert len(set(costs)) == 1  # it is the same network, however it was trained
