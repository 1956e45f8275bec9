import numpy as np
import pytest

from serve.engines.engine import EngineOptions
from serve.engines.loading import load
from serve.evaluation.baselines import Examples, make_baseline
from serve.learn import data as learn_data
from serve.learn.recipes import train
from tests.unit.learn.conftest import IMAGE, ends, loaded, quietly


@pytest.fixture(scope="module")
def vae():
    from serve.learn import digits_vae

    return digits_vae


def test_the_encoder_gives_mean_and_log_variance_and_the_decoder_takes_the_mean(vae):
    inputs, outputs = ends(vae.encoder())
    assert inputs == [IMAGE]
    assert [shape for _, shape, _ in outputs] == [(None, 16)] * 2
    inputs, outputs = ends(vae.decoder())
    assert inputs == [("latent", (None, 16), "float32")]
    assert [shape for _, shape, _ in outputs] == [(None, 28, 28, 1)]
    latent = np.random.default_rng(0).normal(0, 9, (5, 16)).astype(np.float32)
    drawn = vae.decoder()(latent).numpy()
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_the_loss_of_a_reconstruction_is_in_nats_an_image(vae):
    random = np.random.default_rng(0)
    images, drawn = random.random((2, 3, 28, 28, 1)).astype(np.float32)
    nats = -(images * np.log(drawn) + (1 - images) * np.log(1 - drawn)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(vae.reconstruction_loss(images, drawn), nats, rtol=1e-4)


def test_reconstructions_are_of_the_mean_and_in_training_of_a_draw(vae, few_digits):
    model = vae.Autoencoder()
    images = few_digits.x_test[:4]
    mean, _ = model.encoder(images)
    np.testing.assert_allclose(model(images), model.decoder(mean), atol=1e-6)
    drawn = [model(images, training=True).numpy() for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4


def test_the_divergence_from_the_prior_is_that_of_the_paper(vae, few_digits):
    """Kingma and Welling (2013), appendix B, averaged over the images."""
    model = vae.Autoencoder()
    images = few_digits.x_test[:4]
    model(images, training=True)
    mean, log_variance = (tensor.numpy() for tensor in model.encoder(images))
    each = (mean**2 + np.exp(log_variance) - log_variance - 1).sum(axis=1) / 2
    assert sum(float(loss) for loss in model.losses) == pytest.approx(each.mean(), rel=1e-4)


def test_the_autoencoder_leaves_itself_and_its_decoder(tmp_path, few_digits, monkeypatch, vae):
    monkeypatch.setattr(vae, "load_digits", lambda: few_digits)
    trained = train("digits-vae", tmp_path / "digits-vae", 1, quietly)
    assert [made.name for made in trained.made] == ["digits-vae", "digits-generate"]
    engine, _, outputs = loaded(trained.folder)
    assert outputs == {"error": (-1,), "latent": (-1, 16), "reconstruction": (-1, 28, 28, 1)}
    pictures = {"learning_curves.png", "samples.png", "latent_space.png"}
    assert pictures <= {path.name for path in trained.folder.iterdir()}
    generate, inputs, _ = loaded(trained.made[1].folder)
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
