import numpy as np

from serve.learn import data as learn_data
from serve.learn.samples import NAMES, write_samples
from serve.protocols.pictures import load_image
from serve.types import TensorSpec


def test_samples_are_one_held_out_digit_of_each_class(tmp_path):
    paths = write_samples(tmp_path)
    assert [path.stem for path in paths] == list(NAMES)
    split = learn_data.digits()
    image = load_image(tmp_path / "seven.png", TensorSpec("image", "FP32", (-1, 28, 28, 1)))
    differences = np.abs(split.x_test - image).reshape(1000, -1).max(axis=1)
    assert split.y_test[differences.argmin()] == 7
    assert differences.min() < 1e-6


def test_samples_go_into_a_folder_that_is_made_and_may_be_there_already(tmp_path):
    for _ in range(2):
        paths = write_samples(tmp_path / "new" / "samples")
    assert sorted((tmp_path / "new" / "samples").iterdir()) == sorted(paths)
