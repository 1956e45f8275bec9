import numpy as np

from serve.learn.recipes import train
from tests.unit.learn.conftest import IMAGE, PROBABILITIES, ends, loaded


def test_both_ways_train_one_network():
    from serve.learn import digits_layerwise, digits_vae

    models = (digits_layerwise.layer_by_layer(digits_vae.encoder()), digits_layerwise.end_to_end())
    for model in models:
        assert ends(model) == ([IMAGE], [PROBABILITIES])
    assert models[0].count_params() == models[1].count_params()
    assert [model.name for model in models] == ["digits-layerwise", "digits-end-to-end"]


def test_layer_by_layer_only_the_head_learns(few_digits):
    from serve.learn import digits_layerwise, digits_vae

    encoder = digits_vae.encoder()
    before = [array.copy() for array in encoder.get_weights()]
    model = digits_layerwise.layer_by_layer(encoder)
    assert len(model.trainable_variables) == 4  # two dense layers
    model.compile("adam", loss="sparse_categorical_crossentropy")
    head = model.layers[-1].get_weights()[0].copy()
    model.fit(few_digits.x_train[:32], few_digits.y_train[:32], verbose=0)
    for old, new in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(head - model.layers[-1].get_weights()[0]).max() > 0


def test_end_to_end_everything_learns_that_has_a_part_in_the_prediction():
    from serve.learn import digits_layerwise

    model = digits_layerwise.end_to_end()
    assert len(model.trainable_variables) == len(model.variables)


def test_few_labels_are_as_many_of_each_class_and_the_held_out_digits_stay(all_digits):
    from serve.learn import digits_layerwise

    for count in digits_layerwise.LABELS:
        split = digits_layerwise._with_labels(all_digits, count)
        assert np.bincount(split.y_train).tolist() == [count // 10] * 10
        assert len(split.x_train) == count
        np.testing.assert_array_equal(split.x_test, all_digits.x_test)


def test_layer_by_layer_and_end_to_end_are_versions_named_by_their_labels(tmp_path, monkeypatch):
    from serve.learn import digits_layerwise, digits_vae

    fit = digits_vae.fit
    monkeypatch.setattr(digits_layerwise, "STEPS", 3)
    monkeypatch.setattr(digits_vae, "fit", lambda x, *rest: fit(x[::20], *rest))
    seen = []
    trained = train("digits-layerwise", tmp_path / "l", 1, lambda done, text: seen.append(done))
    assert seen == sorted(seen)
    assert {(made.name, made.version) for made in trained.made} == {
        (name, count)
        for name in ("digits-layerwise", "digits-end-to-end")
        for count in (100, 500, 4000)
    }
    assert all(made.metadata["labels"] == made.version for made in trained.made)
    costs = [loaded(made.folder)[0].complexity() for made in trained.made]
    assert len(set(costs)) == 1  # it is the same network, however it was trained
