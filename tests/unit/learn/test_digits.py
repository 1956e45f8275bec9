import numpy as np
import pytest

from serve.learn import data as learn_data
from serve.learn.recipes import train
from tests.unit.learn.conftest import IMAGE, PROBABILITIES, ends


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    seen = []
    folder = tmp_path_factory.mktemp("digits")
    return train("digits", folder, None, lambda done, text: seen.append(done)), seen


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


def test_the_network_goes_from_an_image_to_the_probabilities_of_ten_classes():
    from serve.learn import digits

    assert ends(digits.network()) == ([IMAGE], [PROBABILITIES])
