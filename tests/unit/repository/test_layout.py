import pytest

from serve.errors import RepositoryError
from serve.repository.layout import (
    NESTED,
    NO_MODEL,
    NO_NUMBER,
    Listing,
    ModelFile,
    belongs_to,
    find_model,
    model_path,
    no_model,
    version_folders,
    version_number,
)


@pytest.mark.parametrize(
    ("name", "version"),
    [("1", 1), ("20261124120000", 20261124120000), ("0", 0), ("00000123", 123),
     ("1767225600123456789", 1767225600123456789), (str(2**63 - 1), 2**63 - 1),
     ("0" * 40 + "7", 7), (str(2**63), None), ("1" * 20, None), ("+1", None), ("-4", None),
     ("1 ", None), ("1\n", None), ("1_0", None), ("1.0", None), ("v1", None), ("١", None),
     ("", None)],
)  # fmt: skip
def test_a_version_is_a_number_as_tensorflow_serving_reads_it(name, version):
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


def test_what_is_no_file_of_the_version_does_not_change_which_one_is_loaded(keras_file):
    """What is hidden is in no listing and no manifest, and a folder is no file."""
    folder = keras_file.parent
    (folder / ".other.keras").write_bytes(b"")
    (folder / "model.keras").mkdir()
    (folder / "evil.h5").write_bytes(b"")
    assert model_path(folder) == keras_file


def test_of_two_folders_for_one_number_the_one_that_sorts_last_is_the_version():
    folders, others = version_folders(["123", "00000123", "0123", "0", "00"])
    assert folders == {123: "123", 0: "00"}
    assert others == {
        "00000123": "it is ignored for '0123', the same version 123",
        "0123": "it is ignored for '123', the same version 123",
        "0": "it is ignored for '00', the same version 0",
    }


def test_every_other_folder_is_told_but_hidden_ones_and_the_file_systems():
    assert version_folders(["v1", ".snapshot", "lost+found", "2"]) == ({2: "2"}, {"v1": NO_NUMBER})


def test_a_revision_is_of_the_models_files_and_of_nothing_beside_them():
    files = {"saved_model.pb": 5, "variables/variables.index": 3, "logs/events.out": 9}
    stamps = dict.fromkeys(files, "1")

    def revision(path, stamp):
        return Listing(files, frozenset(), {**stamps, path: stamp}).revision

    before = revision("saved_model.pb", "1")
    assert revision("logs/events.out", "2") == before
    assert revision("variables/variables.index", "2") != before
    assert revision("saved_model.pb", "2") != before


@pytest.mark.parametrize(
    ("model", "path", "belongs"),
    [
        (ModelFile("savedmodel", ""), "assets/words.txt", True),
        (ModelFile("savedmodel", ""), "fingerprint.pb", True),
        (ModelFile("savedmodel", ""), "README.md", False),
        (ModelFile("savedmodel", NESTED), f"{NESTED}/variables/variables.index", True),
        (ModelFile("savedmodel", NESTED), "variables/variables.index", False),
        (ModelFile("keras", "model.keras"), "model.keras", True),
        (ModelFile("keras", "model.keras"), "old.keras", False),
        (ModelFile("keras", "model.keras"), "manifest.json", True),
        (None, "anything", True),
    ],
)
def test_what_belongs_to_a_model_is_what_loading_it_reads(model, path, belongs):
    assert belongs_to(model, path) is belongs


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], NO_MODEL),
        (["other/model.keras"], NO_MODEL),
        (["model.tflite"], NO_MODEL),
        (["frozen.pb"], NO_MODEL),
        (["b.keras", "a.keras"], "several models (a.keras, b.keras); call the one that is meant"),
        (["m.weights.h5"], f"{NO_MODEL}; m.weights.h5 are weights alone, save the whole model"),
    ],
)
def test_what_lies_in_place_of_a_model_is_said(files, said):
    assert no_model(files).startswith(said)
