import pytest

from serve.errors import RepositoryError
from serve.repository.layout import ModelFile, find_model, model_path, version_number


@pytest.mark.parametrize(
    ("name", "version"),
    [("1", 1), ("20261124120000", 20261124120000), ("0", None), ("01", None), ("+1", None),
     ("1 ", None), ("1\n", None), ("١", None), ("", None), ("1" * 19, None)],
)  # fmt: skip
def test_a_version_is_a_positive_integer_without_leading_zero(name, version):
    assert version_number(name) == version


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["model.h5", "model.keras", "saved_model.pb"], ModelFile("savedmodel", "")),
        (["model.savedmodel/saved_model.pb"], ModelFile("savedmodel", "model.savedmodel")),
        (["model.h5", "digits.keras"], ModelFile("keras", "digits.keras")),
        (["a.keras", "b.keras", "model.keras"], ModelFile("keras", "model.keras")),
        (["a.keras", "b.keras"], None),
        (["model.weights.h5"], None),
        (["other/model.keras"], None),
    ],
)
def test_the_model_of_a_folder_is_never_a_guess(names, model):
    assert find_model(names) == model


def test_the_path_to_load_is_a_folder_or_a_file(saved_model, keras_file, tmp_path):
    assert model_path(saved_model) == saved_model
    assert model_path(keras_file) == keras_file
    assert model_path(keras_file.parent) == keras_file
    with pytest.raises(RepositoryError, match="no model"):
        model_path(tmp_path / "nowhere")
