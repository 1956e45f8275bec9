import numpy as np
import pytest

from serve.errors import ConfigError
from serve.learn import data as learn_data
from serve.learn.recipes import RECIPES, train
from serve.learn.samples import NAMES, write_samples
from serve.protocols.pictures import load_image
from serve.types import TensorSpec


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    seen = []
    folder = tmp_path_factory.mktemp("digits")
    return train("digits", folder, None, lambda done, text: seen.append(done)), seen


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


def test_ten_epochs_reach_96_percent_on_held_out_digits(trained):
    result, _ = trained
    assert result.epochs == 10
    assert result.held_out_accuracy >= 0.96


def test_progress_goes_from_nothing_to_all(trained):
    _, seen = trained
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.01
    assert seen[-1] == 1


def test_a_saved_model_an_h5_and_a_picture_of_the_training_are_left(trained):
    result, _ = trained
    assert {"saved_model.pb", "model.h5", "learning_curves.png"} <= {
        path.name for path in result.folder.iterdir()
    }
    from serve.engines.engine import EngineOptions
    from serve.engines.loading import load

    images = learn_data.digits().x_test[:8]
    served = load(result.folder, EngineOptions())
    signature = served.signatures["serving_default"]
    assert [(s.name, s.shape) for s in signature.inputs] == [("image", (-1, 28, 28, 1))]
    from_saved_model = served.infer("serving_default", {"image": images})["probabilities"]
    from_h5 = load(result.folder / "model.h5", EngineOptions()).infer(
        "serving_default", {"image": images}
    )["probabilities"]
    np.testing.assert_allclose(from_saved_model, from_h5, atol=1e-5)


def test_an_unknown_recipe_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=", ".join(sorted(RECIPES))):
        train("nothing", tmp_path, None, lambda done, text: None)


def test_samples_are_one_held_out_digit_of_each_class(tmp_path):
    paths = write_samples(tmp_path)
    assert [path.stem for path in paths] == list(NAMES)
    split = learn_data.digits()
    image = load_image(tmp_path / "seven.png", TensorSpec("image", "FP32", (-1, 28, 28, 1)))
    differences = np.abs(split.x_test - image).reshape(1000, -1).max(axis=1)
    assert split.y_test[differences.argmin()] == 7
    assert differences.min() < 1e-6


def test_without_the_data_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(learn_data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"strata-serve\[learn\]"):
        learn_data.digits()
